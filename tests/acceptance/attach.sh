#!/usr/bin/env bash
# A user's own cluster, plain etcd as PID 1 of an image without a shell: it is up before and after with the same
# containers and its own keys, the runs on it are VALID, every fault is proven and proven healed; of a harness that was
# killed with SIGKILL in the middle of a fault nothing is left.
#
#   tests/acceptance/attach.sh [SECONDS]      the run on the compose project takes this long (60), and some more
#
# DOCKER_HOST says which engine; SPLITVOTE_ETCD_VERSIONS, VERSION, FAULTS, SEED, HELPER (an image with nft, ip, tc and sh) and
# BIN (the folder of splitvote) can be set. Exits 3, saying what is missing, where it cannot be. Run it where published
# ports of that engine can be reached at 127.0.0.1.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
faults=${FAULTS:-kill,pause,stop,partition,packet,admin}
killed=${KILLED:-kill,pause,partition,packet}
seed=${SEED:-1}
helper=${HELPER:-splitvote-node}
bin=$(realpath "${BIN:-.venv/bin}")
version=${VERSION:-3.5.30}
binaries=$(realpath "${SPLITVOTE_ETCD_VERSIONS:-.etcd-versions}/$version")
python=$bin/python
export PYTHONDONTWRITEBYTECODE=1 COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-attachme} PLAIN_ETCD_IMAGE=plain-etcd:$version
file=tests/acceptance/plain-etcd/docker-compose.yml

docker info >/dev/null 2>&1 || { echo "no docker engine answers: see DOCKER_HOST"; exit 3; }
[ -n "$(docker images -q "$helper")" ] || { echo "no image $helper for helper containers: \`splitvote up --build\` makes it"; exit 3; }
[ -x "$binaries/etcd" ] || { echo "no etcd in $binaries"; exit 3; }
if docker compose version >/dev/null 2>&1; then compose=(docker compose -f "$file"); else compose=(docker-compose -f "$file"); fi

work=$(mktemp -d)
finish() {
  "${compose[@]}" down -v -t 1 >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT

# The image: the binaries, and the C library where they want one. Nothing else, so that nothing can be run in it but etcd.
mkdir "$work/root"
cp "$binaries/etcd" "$binaries/etcdctl" "$work/root"
for library in $(ldd "$binaries/etcd" 2>/dev/null | grep -o '/[^ )]*' || true); do
  mkdir -p "$work/root$(dirname "$library")"; cp -L "$library" "$work/root$library"
done
tar -C "$work/root" -c . | docker import - "$PLAIN_ETCD_IMAGE" >/dev/null

containers() { "${compose[@]}" ps -q | sort; }
inside() { docker exec "$("${compose[@]}" ps -q etcd1)" /etcdctl "$@"; }  # the image's own etcdctl: no shell is needed

# What must be as it was: which containers there are and that they run, the user's keys, no keys of ours, no helpers.
as_found() {
  for container in $(containers); do docker inspect -f '{{.Id}} {{.State.Status}} {{.HostConfig.RestartPolicy.Name}}' "$container"; done
  inside get user/ --prefix
  inside get splitvote/ --prefix --keys-only
  docker ps -aq --filter label=splitvote.run
}

expect_as_found() {  # expect_as_found WHAT
  if [ "$(as_found)" != "$before" ]; then
    echo "$1 left traces:"; diff <(echo "$before") <(as_found) || true; exit 1
  fi
  for container in $(containers); do
    rules=$(docker run --rm --network "container:$container" --cap-add NET_ADMIN --entrypoint sh "$helper" -c \
      'nft list tables | grep splitvote; tc qdisc show | grep -E "htb|netem"; ip -d link show | grep -o "gso_max_segs 1 "' || true)
    [ -z "$rules" ] || { echo "$1 left rules: $rules"; exit 1; }
  done
}

prove() {  # prove WHAT STORE FAMILIES STATUS: that a run that ended so was VALID, and its faults were what they were to be
  if ! "$python" tests/acceptance/proven.py "$2/latest" "$3" || [ "$4" -ne 0 ]; then
    tail -n 40 "$work/output"; echo "$1 failed: exit $4"; exit 1
  fi
}

killed() {  # killed FAMILY: a run whose harness is killed in the middle of a fault, and healed
  local store=$work/killed-$1 harness journal pid
  echo "== SIGKILL in the middle of a fault ($1), then heal"
  "$bin/splitvote" run register --cluster compose --project "$COMPOSE_PROJECT_NAME" --helper-image "$helper" \
    --faults "$1" --time 600 --interval 3 --seed "$seed" --store "$store" >"$work/output" 2>&1 &
  harness=$!
  journal=$store/latest/faults.jsonl
  for _ in $(seq 900); do
    grep -qs '"phase":"active"' "$journal" && break
    kill -0 "$harness" 2>/dev/null || break
    sleep 0.1
  done
  grep -qs '"phase":"active"' "$journal" || { tail -n 20 "$work/output"; echo "no fault began"; exit 1; }
  pid=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["harness"]["pid"])' "$store/latest/attached.json")
  kill -KILL "$pid"
  wait "$harness" 2>/dev/null || true
  "$bin/splitvote" heal "$store/latest/"
  "$bin/splitvote" heal "$store/latest/" | grep -q "nothing to heal"
  expect_as_found "a harness that was killed in the middle of $1"
}

echo "== the user's cluster: etcd $version"
"${compose[@]}" up -d >/dev/null 2>&1
for _ in $(seq 300); do inside endpoint health --cluster >/dev/null 2>&1 && break; sleep 0.1; done
inside put user/name "not the harness's" >/dev/null
inside put user/other 1 >/dev/null
revision() { inside get user/name -w fields | grep -o '"ModRevision" : [0-9]*'; }
touched=$(revision)
before=$(as_found)

echo "== --cluster compose --project: $faults, $seconds s, while the user writes"
( while :; do inside put user/busy "$(date +%s%N)" >/dev/null 2>&1 || true; sleep 0.3; done ) &
busy=$!
status=0
"$bin/splitvote" run register --cluster compose --project "$file" --service-label role=store --helper-image "$helper" \
  --faults "$faults" --time "$seconds" --seed "$seed" --store "$work/store" >"$work/output" 2>&1 || status=$?
kill "$busy"; wait "$busy" 2>/dev/null || true
grep -q "etcd $version on every node" "$work/output" || { tail -n 5 "$work/output"; exit 1; }
prove "the run on the compose project" "$work/store" "$faults" "$status"
inside del user/busy >/dev/null
expect_as_found "a run on the compose project"

for family in ${killed//,/ }; do killed "$family"; done

echo "== --cluster attach --endpoints, 30 s"
endpoints=$(for service in etcd1 etcd2; do "${compose[@]}" port "$service" 2379; done | paste -sd,)
endpoints=$endpoints,$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$("${compose[@]}" ps -q etcd3)"):2379
status=0
"$bin/splitvote" run register --cluster attach --endpoints "$endpoints" --faults partition,admin --time 30 --seed "$seed" \
  --store "$work/attach" >"$work/output" 2>&1 || status=$?
prove "the run on endpoints" "$work/attach" partition,admin "$status"
expect_as_found "a run on endpoints"

echo "== what is not done is refused before anything is touched"
for refused in member disk admin:compact admin:no_space version; do
  if "$bin/splitvote" run register --cluster compose --project "$COMPOSE_PROJECT_NAME" --helper-image "$helper" \
    --faults "$refused" --time 5 --store "$work/refused" >"$work/output" 2>&1; then echo "$refused was not refused"; exit 1; fi
  tail -n 1 "$work/output"
done
if "$bin/splitvote" run register --cluster attach --endpoints "$endpoints" --faults kill --time 5 --store "$work/refused" \
  >"$work/output" 2>&1; then echo "kill was not refused"; exit 1; fi
tail -n 1 "$work/output"
expect_as_found "a run that was refused"
[ "$(revision)" == "$touched" ] || { echo "the user's keys were written: $touched, $(revision)"; exit 1; }
echo "attach: every run VALID, every fault proven and healed, the user's cluster is as it was found"
