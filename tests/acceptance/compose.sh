#!/usr/bin/env bash
# The cluster of docker-compose.yml, in a docker of our own (own_docker.sh): runs under every family of faults by ssh and by
# docker exec are VALID, every fault is proven and proven healed, and the nodes are left as they were found, by a harness
# that was killed with SIGKILL as well, once `splitvote heal` was there.
#
#   tests/acceptance/compose.sh [--time SECONDS]      each of the two runs takes this long (90), and some more
#
# FAULTS, KILLED (families in which a harness is killed), SEED, ETCD, BIN (the folder of splitvote) and KEEP (a folder for
# the two runs' stores) can be set. Exits 2 where a run is UNKNOWN, or a fault not proven, twice, as on a slow machine, and
# 3, saying what is missing, where there can be no docker. Installs nothing. The base of the image is made by
# docker/base.sh, since a docker that reaches nothing can pull nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
case ${1:-} in "") seconds=90 ;; --time) seconds=$2 ;; *) sed -n 's/^#   //p' "$0"; exit 64 ;; esac
faults=${FAULTS:-kill,pause,partition,packet,clock,member,admin}
killed=${KILLED:-$faults,resource}
seed=${SEED:-1}
bin=$(realpath "${BIN:-.venv/bin}")
etcd=$(realpath "${ETCD:-${SPLITVOTE_ETCD_VERSIONS:-.etcd-versions}/3.5.30/etcd}")
python=$bin/python
export PYTHONDONTWRITEBYTECODE=1 COMPOSE_PROJECT_NAME=splitvoteacceptance

if [ -z "${SPLITVOTE_OWN_DOCKER:-}" ]; then
  missing=()
  command -v debootstrap >/dev/null || [ -s docker/base.tar ] || missing+=("debootstrap")
  command -v ssh >/dev/null || missing+=("an ssh client (openssh-client)")
  docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || missing+=("docker-compose")
  [ "$(id -u)" -eq 0 ] || missing+=("root")
  if [ ${#missing[@]} -gt 0 ]; then
    (IFS=,; echo "SKIPPED: --cluster compose cannot be tried here without ${missing[*]}" | sed 's/,/, /g'); exit 3
  fi
  tests/acceptance/own_docker.sh true || exit  # what cannot be is told before anything is downloaded
  docker/base.sh make || { echo "SKIPPED: the base of the nodes' image cannot be made here"; exit 3; }
  exec tests/acceptance/own_docker.sh "$0" "$@"
fi

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
image=splitvote-node

section() { echo "== $*  [$SECONDS s]"; }

# What could be left of a run in docker: containers, whether they run, what they may use; networks, volumes.
containers() {
  docker ps -aq --no-trunc | sort | xargs -r docker inspect -f \
    '{{.Id}} {{.State.Status}} {{.State.StartedAt}} {{.HostConfig.NanoCpus}} {{.HostConfig.CpuQuota}} {{.HostConfig.BlkioWeight}}'
  docker network ls -q --no-trunc | sort
  docker volume ls -q | sort
}

# What could be left on a node that runs: files, rules, queues, processes.
on_nodes() {
  local id
  for id in $(docker ps -q --no-trunc | sort); do
    docker exec -i "$id" sh -s <<'NODE'
hostname; ls -A /var/lib/splitvote | grep -v '^bin$'; ls -AR /tmp /run/sshd
nft --stateless list ruleset 2>/dev/null; iptables-save 2>/dev/null | grep '^-'; tc qdisc show; ip -d -o link show eth0 | grep -o 'gso_max_segs [0-9]*'
processes=$(cat /proc/[0-9]*/comm)
echo "$processes" | grep -v '^sshd$\|^cat$\|^sh$\|^tini$\|^node$' | sort
NODE
  done
}

expect_as_found() {  # expect_as_found WHAT: what there is now is what $before says
  for _ in $(seq 100); do  # sshd's sessions and docker's execs take a moment to end
    if [ "$(containers; on_nodes)" == "$before" ]; then return 0; fi
    sleep 0.1
  done
  echo "$1 left traces:"; diff <(echo "$before") <(containers; on_nodes) || true; exit 1
}

start() {  # start CONTROL STORE FAULTS SECONDS ARGS...
  local control=$1 store=$2 families=$3 time=$4; shift 4
  "$bin/splitvote" run register --cluster compose --control "$control" --faults "$families" --time "$time" --rate 200 \
    --seed "$seed" --etcd "$etcd" --store "$store" "$@"
}

run() {  # run CONTROL: a whole run, its verdict and its faults
  local control=$1 time=$seconds store=$work/$1 status try
  for try in 1 2; do
    section "compose by $control: $faults, $time s"
    status=0; start "$control" "$store" "$faults" "$time" --interval 2 >"$work/output" 2>&1 || status=$?
    [ -z "${KEEP:-}" ] || { mkdir -p "$KEEP/$control-$try"; cp -a "$store/." "$KEEP/$control-$try/"; }
    if [ "$status" -eq 0 ] && "$python" tests/acceptance/proven.py "$store/latest" "$faults"; then break; fi
    # A slow machine's time can be over before every family had its turn, which is UNKNOWN (2), or before a proof: it gets
    # more, once.
    if { [ "$status" -ne 0 ] && [ "$status" -ne 2 ]; } || [ "$try" -eq 2 ]; then
      tail -n 40 "$work/output"; echo "by $control: exit $status"
      case $status in 0 | 2) exit 2 ;; *) exit 1 ;; esac
    fi
    grep "vacuous" "$work/output" || true
    expect_as_found "a run by $control"
    time=$((2 * seconds))
  done
  [ -s "$store/latest/report.html" ] || { echo "by $control: no report was written"; exit 1; }
  expect_as_found "a run by $control"
  rm -rf "$store"
}

killed() {  # killed CONTROL FAMILY: a run whose harness is killed in the middle of a fault, and healed
  local store=$work/killed harness journal pid
  section "SIGKILL in the middle of a fault ($2, by $1), then heal"
  start "$1" "$store" "$2" 600 --interval 3 >"$work/output" 2>&1 &
  harness=$!
  journal=$store/latest/faults.jsonl
  for _ in $(seq 900); do
    grep -qs '"phase":"active"' "$journal" && break
    kill -0 "$harness" 2>/dev/null || break
    sleep 0.1
  done
  grep -qs '"phase":"active"' "$journal" || { tail -n 20 "$work/output"; echo "no fault began"; exit 1; }
  pid=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["harness"]["pid"])' "$store/latest/nodes.json")
  kill -KILL "$pid"
  wait "$harness" 2>/dev/null || true
  "$bin/splitvote" heal "$store/latest/"
  "$bin/splitvote" heal "$store/latest/" | grep -q "nothing to heal"
  expect_as_found "a harness that was killed in the middle of $2"
  rm -rf "$store"
}

section "the base, and the image on it"
docker/base.sh import
"$bin/splitvote" up --build >"$work/output" 2>&1 || { cat "$work/output"; exit 1; }
[ -n "$(docker images -q "$image")" ] || { echo "no image $image was built"; exit 1; }
"$bin/splitvote" down

before=$(containers; on_nodes)
for control in ssh docker; do run "$control"; done

section "tests of the parts on real nodes"
parts() {
  SPLITVOTE_TEST_DOCKER=$image "$python" -m pytest -q -p no:cacheprovider tests/harness/clusters/test_compose_nodes.py \
    tests/harness/clusters/test_remote_real.py tests/harness/control/test_docker.py tests/harness/control/test_transports.py
}
parts || { section "once more"; parts; }

# Where nothing was up, nothing is left up; where the nodes were up, they stay, and each next run on them starts healthy.
killed ssh kill
"$bin/splitvote" up >"$work/output" 2>&1 || { cat "$work/output"; exit 1; }
before=$(containers; on_nodes)
control=docker
for family in ${killed//,/ }; do
  killed "$control" "$family"
  [ "$control" = ssh ] && control=docker || control=ssh
done
section "a run after all that"
start ssh "$work/last" kill 5 >"$work/output" 2>&1 || { tail -n 40 "$work/output"; exit 1; }
expect_as_found "the last run"
"$bin/splitvote" down
section "compose: every run VALID, every fault proven and healed, the nodes left as they were found"
