#!/usr/bin/env bash
# Run a command beside a docker of its own, whose containers reach nothing outside of it, and leave nothing.
#
#   tests/acceptance/own_docker.sh CMD...     exits as CMD does; 3, saying what is missing, where there can be no such docker
#
# A dockerd, its containers and CMD are in a network, mount and process namespace of their own: whatever becomes of them,
# they and their mounts are gone with it. CMD finds DOCKER_HOST, and SPLITVOTE_OWN_DOCKER (the folder of that dockerd), in
# its environment. A docker that this machine has already is never used.
set -euo pipefail

if [ "${1:-}" != --inside ]; then
  missing=()
  [ "$(id -u)" -eq 0 ] || missing+=("root")
  for tool in dockerd containerd runc docker ip iptables unshare; do command -v "$tool" >/dev/null || missing+=("$tool"); done
  { [ "$(id -u)" -ne 0 ] || unshare --net --mount --pid --fork true 2>/dev/null; } || missing+=("the right to make namespaces")
  if [ ${#missing[@]} -gt 0 ]; then
    (IFS=,; echo "SKIPPED: no docker of our own can be started without ${missing[*]}" | sed 's/,/, /g'); exit 3
  fi
  work=$(mktemp -d "${TMPDIR:-/tmp}/splitvote-docker.XXXXXX")
  group=splitvote-docker-$$
  inside=
  clean() {
    trap '' INT TERM HUP
    [ -z "$inside" ] || kill -KILL "$inside" 2>/dev/null || true  # and with it the namespace's first process, and so all of it
    wait 2>/dev/null || true
    find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null || true
    rm -rf "$work"
  }
  trap clean EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  set -m  # so that an interrupt from the terminal is ours alone, and not ignored inside
  unshare --net --mount --pid --fork --kill-child --mount-proc "$0" --inside "$work" "$group" "$@" <&0 &
  inside=$!
  status=0; wait "$inside" || status=$?
  inside=
  exit "$status"
fi

work=$2 group=$3; shift 3
ip link set lo up
mkdir "$work/data"; echo "{}" >"$work/daemon.json"  # whatever the machine's own docker is told is not for ours
# Containers' layers cannot lie on layers: where the machine is a container itself, they are in memory.
[ "$(stat -f -c %T "$work")" != overlayfs ] || mount -t tmpfs -o size=3g none "$work/data"
dockerd --data-root "$work/data" --exec-root "$work/exec" --host "unix://$work/docker.sock" --pidfile "$work/docker.pid" \
  --config-file "$work/daemon.json" --bip 198.18.0.1/24 --default-address-pool base=198.19.0.0/16,size=24 \
  --cgroup-parent "/$group" --exec-opt native.cgroupdriver=cgroupfs >"$work/log" 2>&1 &
daemon=$!
export DOCKER_HOST=unix://$work/docker.sock SPLITVOTE_OWN_DOCKER=$work
unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH DOCKER_CONFIG
for _ in $(seq 600); do
  docker version >/dev/null 2>&1 && break
  kill -0 "$daemon" 2>/dev/null || break
  sleep 0.1
done
if ! docker version >/dev/null 2>&1; then
  echo "SKIPPED: a docker of our own does not start: $(grep -v 'level=info' "$work/log" | tail -n 1 | cut -c 1-300)"; exit 3
fi
status=0; "$@" || status=$?
docker ps -aq | xargs -r docker rm -f -v >/dev/null 2>&1 || true
kill -TERM "$daemon"
for _ in $(seq 300); do kill -0 "$daemon" 2>/dev/null || break; sleep 0.1; done
exit "$status"
