#!/usr/bin/env bash
# Clusters in network namespaces, as root and as an ordinary user: runs under every family of faults are VALID, every
# fault is proven and proven healed, and nothing is left, not even of a harness that was killed with SIGKILL.
#
#   tests/acceptance/netns.sh [SECONDS]      each run takes this long (75), and some more
#
# FAULTS, KILLED (families in which a harness is killed; all of FAULTS), SEED, ETCD and BIN (the folder of splitvote) can be
# set: `KILLED=partition,member tests/acceptance/netns.sh 30` takes half the time. Exits 3, saying what is missing, where
# there can be no such clusters. Installs nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-75}
faults=${FAULTS:-kill,pause,partition,packet,clock,member,admin}
killed=${KILLED:-$faults}
seed=${SEED:-1}
bin=$(realpath "${BIN:-.venv/bin}")
etcd=$(realpath "${ETCD:-${SPLITVOTE_ETCD_VERSIONS:-.etcd-versions}/3.5.30/etcd}")
python=$bin/python
export PYTHONDONTWRITEBYTECODE=1

problems=$("$python" -c 'from splitvote.harness.clusters.network.netns import means; print("\n".join(means().problems))')
if [ -n "$problems" ]; then echo "no network namespaces here: $problems"; exit 3; fi

work=$(mktemp -d); chmod 755 "$work"; trap 'rm -rf "$work"' EXIT

# as_user CMD...: by nobody, in a mount namespace in which that user can read the interpreter, wherever it is.
as_user() {
  if [ "$(id -u)" -ne 0 ]; then "$@"; return; fi
  unshare --mount --propagation private bash -euo pipefail -c '
    work=$1 prefix=$2; shift 2
    for wanted in "$prefix" "$PWD"; do
      setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$wanted" && continue
      closed=$wanted
      while setpriv --reuid 65534 --regid 65534 --clear-groups test ! -x "$(dirname "$closed")"; do closed=$(dirname "$closed"); done
      place=$(mktemp -d "$work/open.XXXX"); mount --bind "$wanted" "$place"
      mount -t tmpfs -o mode=755 none "$closed"; mkdir -p "$wanted"; mount --bind "$place" "$wanted"
    done
    exec setpriv --reuid 65534 --regid 65534 --clear-groups env HOME="$work/user" "$@"
  ' as_user "$work" "$("$python" -c 'import sys; print(sys.base_prefix)')" "$@"
}

as_root() { "$@"; }

# What could be left of a run: named namespaces, interfaces, mounts, processes.
traces() {
  ip netns list 2>/dev/null || true
  ls /sys/class/net
  cat /proc/mounts
  pgrep -af "$work" | grep -v "netns.sh" || true
}

expect_no_traces() {  # expect_no_traces WHAT: as it was before
  for _ in $(seq 100); do  # the kernel takes its time to end what it was told to end
    if [ "$(traces)" == "$before" ]; then return 0; fi
    sleep 0.1
  done
  echo "$1 left traces:"; diff <(echo "$before") <(traces) || true; exit 1
}

run() {  # run WHO: a whole run, its verdict and its faults
  local who=$1 store=$work/$1/store status=0
  echo "== $who: $faults, $seconds s"
  "as_$who" "$bin/splitvote" run register --cluster netns --faults "$faults" --time "$seconds" --rate 200 \
    --seed "$seed" --etcd "$etcd" --store "$store" >"$work/$who/output" 2>&1 || status=$?
  if [ "$status" -ne 0 ] || ! "$python" tests/acceptance/proven.py "$store/latest" "$faults"; then
    tail -n 40 "$work/$who/output"
    echo "$who: exit $status"; exit 1
  fi
  expect_no_traces "a run as $who"
}

killed() {  # killed WHO FAMILY: a run whose harness is killed in the middle of a fault, and healed
  local who=$1 store=$work/$1/killed-$2 harness journal pid
  echo "== $who: SIGKILL in the middle of a fault ($2), then heal"
  "as_$who" "$bin/splitvote" run register --cluster netns --faults "$2" --time 600 --interval 3 --seed "$seed" \
    --etcd "$etcd" --store "$store" >"$work/$who/output" 2>&1 &
  harness=$!
  journal=$store/latest/faults.jsonl
  for _ in $(seq 600); do grep -qs '"phase":"active"' "$journal" && break; sleep 0.1; done
  grep -q '"phase":"active"' "$journal" || { tail -n 20 "$work/$who/output"; echo "no fault began"; exit 1; }
  pid=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["harness"]["pid"])' "$store/latest/cluster.json")
  kill -KILL "$pid"
  wait "$harness" 2>/dev/null || true
  "as_$who" "$bin/splitvote" heal "$store/latest/"
  "as_$who" "$bin/splitvote" heal "$store/latest/" | grep -q "nothing to heal"
  expect_no_traces "a harness of $who that was killed in the middle of $2"
  rm -rf "$store"
}

before=$(traces)
whom=(user); [ "$(id -u)" -eq 0 ] && whom=(root user)
[ "$(id -u)" -eq 0 ] || echo "not root: the runs as root are left out"
for who in "${whom[@]}"; do
  mkdir -p "$work/$who"; [ "$(id -u)" -ne 0 ] || [ "$who" != user ] || chown 65534:65534 "$work/user"
  run "$who"
  for family in ${killed//,/ }; do killed "$who" "$family"; done
done
echo "netns: every run VALID, every fault proven and healed, nothing left (${whom[*]})"
