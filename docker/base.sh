#!/usr/bin/env bash
# Make the base of the nodes' image where no registry can be reached: a minimal Debian from a package mirror, with all that
# docker/Dockerfile installs already inside, so that building on it needs no network.
#
#   docker/base.sh make               makes docker/base.tar, and anew when this script or the Dockerfile has changed
#   docker/base.sh import [NAME]      that, and imports it as NAME (debian:bookworm-slim, as the Dockerfile has it) into docker
#
# As root, with debootstrap. MIRROR, SUITE (bookworm) and ETCD_PACKAGE (etcd-server) can be set.
set -euo pipefail
what=${1:-} name=${2:-debian:bookworm-slim}
case $what in make | import) ;; *) sed -n 's/^#   //p' "$0"; exit 64 ;; esac
cd "$(dirname "$0")"
suite=${SUITE:-bookworm}
etcd_package=${ETCD_PACKAGE:-etcd-server}

recipe() { echo "$suite $etcd_package"; cat Dockerfile base.sh; }
recipe_now=$(recipe | sha256sum | cut -d' ' -f1)

# What the machine's own apt goes through, debootstrap goes through.
eval "$(apt-config shell http_proxy Acquire::http::Proxy 2>/dev/null || true)"
[ -z "${http_proxy:-}" ] || export http_proxy

make_base() {  # make_base TAR: a Debian of nothing but what a node needs
  local root status=0 packages
  packages=$(sed -n 's/^ARG PACKAGES="\(.*\)"$/\1/p' Dockerfile)
  root=$(mktemp -d "${TMPDIR:-/tmp}/splitvote-base.XXXXXX")
  # In memory where there is enough of it: packages are synced to a disk file by file.
  unshare --mount --propagation private bash -euo pipefail -c '
    root=$1 tar=$2; shift 2
    [ "$(awk "/MemAvailable/ {print \$2}" /proc/meminfo)" -lt 3000000 ] || mount -t tmpfs -o size=1500m none "$root"
    debootstrap "$@" 2>&1
    # Packages, their lists, and what nobody reads in a node.
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/usr/share/{doc,man,locale,info}/*
    rm -f "$root"/etc/ssh/ssh_host_*
    tar --numeric-owner -C "$root" -cf "$tar.part" .
    mv "$tar.part" "$tar"
  ' make_base "$root" "$1" --variant=minbase --include="$(echo "$packages $etcd_package" | tr ' ' ',')" "$suite" "$root" \
    ${MIRROR:+"$MIRROR"} >base.log || status=$?
  rm -rf "$root"
  if [ "$status" -ne 0 ]; then echo "no base image could be made:"; tail -n 5 base.log; fi
  rm -f base.log
  return "$status"
}

if [ ! -s base.tar ] || [ "$(cat base.recipe 2>/dev/null)" != "$recipe_now" ]; then
  echo "making the base image's contents ($suite): a few minutes at most"
  make_base base.tar
  echo "$recipe_now" >base.recipe
fi
[ "$what" = import ] || exit 0
docker import --change 'CMD ["/bin/sh"]' base.tar "$name" >/dev/null
echo "imported $name"
