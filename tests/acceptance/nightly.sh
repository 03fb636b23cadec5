#!/usr/bin/env bash
# The steps of .github/workflows/nightly.yml as they stand there, on a short budget: a night is VALID and its table tells
# so; a cluster that loses revisions is INVALID and nothing else; our own failures have exit codes of their own.
#
#   tests/acceptance/nightly.sh [BUDGET]     of each night (90s)
#
# In docker-compose, too, where there is a docker. SEED and WORKLOADS can be set: four at once, in one run, when not given.
# A night may be UNKNOWN on a slow machine, on which a fault took all the time that there was: that is told, and passes.
set -euo pipefail
cd "$(dirname "$0")/../.."
budget=${1:-90s}
seed=${SEED:-1}
workloads=${WORKLOADS-kv+watch+election+lease}
versions=$(realpath "${SPLITVOTE_ETCD_VERSIONS:-.etcd-versions}")
workflow=.github/workflows/nightly.yml
splitvote=.venv/bin/splitvote
export PYTHONDONTWRITEBYTECODE=1

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

fail() { echo "nightly: $*"; exit 1; }

# follow CLUSTER: the workflow's commands in their order, as GitHub would run them; the first failure's status is the job's.
follow() {
  local cluster=$1 status=0 code when name command
  export CLUSTER=$cluster STORE=$work/$cluster BUDGET=$budget SEED=$seed WORKLOADS=$workloads AVOID=open
  export GITHUB_STEP_SUMMARY=$work/$cluster.md
  while IFS=$'\t' read -r when name command <&3; do
    if [ "$status" -ne 0 ] && [ "$when" != always ]; then echo "== left out: $name"; continue; fi
    case "$cluster $command" in
      compose*) ;;
      *"splitvote up"*|*"splitvote down"*) echo "== $name: nothing to do on $cluster"; continue ;;
    esac
    echo "== $name: $command"
    code=0; bash -euo pipefail -c "$command" 3<&- || code=$?
    [ "$status" -ne 0 ] || status=$code
  done 3< <(.venv/bin/python tests/acceptance/workflow.py "$workflow")
  [ -s "$GITHUB_STEP_SUMMARY" ] || fail "$cluster: there is no summary"
  cat "$GITHUB_STEP_SUMMARY"
  case "$status" in
    0) grep -q '^## [0-9]* runs*: [0-9]* VALID$' "$GITHUB_STEP_SUMMARY" || fail "$cluster: exit 0, and not every run is VALID" ;;
    2) echo "== $cluster: UNKNOWN, ON A SLOW MACHINE?" ;;
    *) fail "$cluster: exit $status" ;;
  esac
  [ "$(find "$STORE" -name report.html | wc -l)" -eq "$(find "$STORE" -name results.json | wc -l)" ] || fail "$cluster: a report is missing"
  [ -s "$STORE/index.html" ] || fail "$cluster: there is no index"
}

# expect STATUS CMD...: the command ends with just this.
expect() {
  local wanted=$1 code=0; shift
  "$@" || code=$?
  [ "$code" -eq "$wanted" ] || fail "exit $code, not $wanted: $*"
}

echo "== a night on this machine"
PATH=$versions/3.5.30:$PATH follow local

echo "== a night in virtual time, by make"
expect 0 make nightly CLUSTER=sim SEED="$seed" BUDGET=10s NIGHT_ARGS="--store $work/sim"

echo "== revisions are lost: INVALID"
expect 1 "$splitvote" nightly kv --etcd "$versions/3.5.1/etcd" --faults kill,admin:crash_during_defragment --rate 1000 \
  --run-arg=--interval=2 --time 30 --budget 30s --seed "$seed" --store "$work/lost"
"$splitvote" summary "$work/lost" --latest-night --markdown | tee "$work/lost.md"
grep -q '1 INVALID' "$work/lost.md" || fail "the summary hides an INVALID"

echo "== no such etcd: the command line is wrong"
expect 64 "$splitvote" nightly --etcd /no/such/etcd --budget 10s --seed "$seed" --store "$work/refused"
"$splitvote" summary "$work/refused" | grep -q '1 FAILED' || fail "the summary hides a run that was refused"

echo "== an etcd that never starts: our surroundings failed"
mkdir "$work/bin"
cat >"$work/bin/etcd" <<'ETCD'
#!/bin/sh
case "$*" in *--version*) echo "etcd Version: 3.5.30";; *) echo "no" >&2; exit 1;; esac
ETCD
chmod +x "$work/bin/etcd"
expect 3 "$splitvote" nightly kv --etcd "$work/bin/etcd" --time 5 --budget 5s --seed "$seed" --store "$work/failed"
"$splitvote" summary "$work/failed"

if docker info >/dev/null 2>&1; then
  echo "== a night in docker-compose"
  SPLITVOTE_ETCD_DIR=${SPLITVOTE_ETCD_DIR:-$versions/3.5.30} follow compose
else
  echo "== no docker here: THE NIGHT IN DOCKER-COMPOSE IS LEFT OUT"
fi
echo "nightly: every step of $workflow was run, and every exit code is as docs/nightly.md has it"
