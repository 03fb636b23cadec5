#!/usr/bin/env bash
# Clusters on hosts over ssh: five sshds, each in a network, mount and process namespace of its own, as five machines would
# be. A run under every family of faults is VALID, every fault is proven and proven healed, and nothing is left on the hosts,
# not even of a harness that was killed with SIGKILL. Then the same where the hosts have an etcd already, as a service with
# commands of its own, whose data stay what they were.
#
#   tests/acceptance/ssh.sh [SECONDS]      the run takes this long (100), and some more
#
# FAULTS, SERVICE_FAULTS, KILLED (families in which a harness is killed), PARTS (ours, services), SEED, ETCD and BIN can be
# set. Exits 3, saying what is missing, where that cannot be tried. Installs nothing, and listens in its own namespaces only.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-100}
faults=${FAULTS:-kill,pause,partition,packet,member,admin}
killed=${KILLED:-pause,partition,member}
service_faults=${SERVICE_FAULTS:-kill,pause,partition,packet}
parts=${PARTS:-ours,services}
seed=${SEED:-7}
bin=$(realpath "${BIN:-.venv/bin}")
etcd=$(realpath "${ETCD:-${SPLITVOTE_ETCD_VERSIONS:-.etcd-versions}/3.5.30/etcd}")
export PYTHONDONTWRITEBYTECODE=1

missing=()
[ "$(id -u)" -eq 0 ] || missing+=("root")
for tool in ip tc unshare nsenter ssh-keygen /usr/sbin/sshd; do command -v "$tool" >/dev/null || missing+=("$tool"); done
unshare --net --mount --pid --fork true 2>/dev/null || missing+=("namespaces")
if [ ${#missing[@]} -gt 0 ]; then echo "SKIPPED: --cluster ssh cannot be tried here without ${missing[*]}"; exit 3; fi

work=$(mktemp -d)
mark=svs$$
hosts=()
clean() {
  [ ${#hosts[@]} -eq 0 ] || kill -KILL "${hosts[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  for name in hub n1 n2 n3 n4 n5; do ip netns del "$mark-$name" 2>/dev/null || true; done
  rm -rf "$work"
}
trap clean EXIT

ip netns add "$mark-hub"
hub() { ip netns exec "$mark-hub" "$@"; }
hub ip link set lo up
hub ip link add bridge0 type bridge stp_state 0 forward_delay 0
hub ip addr add 198.18.7.1/24 dev bridge0
hub ip link set bridge0 up
ssh-keygen -q -t ed25519 -N '' -C '' -f "$work/key"

# host NUMBER: a machine with an sshd, and a firewall of its own that is none of ours. Prints its entry of the inventory.
host() {
  local name=n$1 address=198.18.7.1$1 home=$work/n$1
  mkdir -p "$home/lib"
  ssh-keygen -q -t ed25519 -N '' -C '' -f "$home/host_key"
  ip netns add "$mark-$name"
  ip -n "$mark-$name" link set lo up
  hub ip link add "to-$name" type veth peer name lan0 netns "/run/netns/$mark-$name"
  hub ip link set "to-$name" master bridge0 up
  ip -n "$mark-$name" addr add "$address/24" dev lan0
  ip -n "$mark-$name" link set lan0 up
  ! command -v nft >/dev/null || ip netns exec "$mark-$name" nft \
    "add table inet mine; add chain inet mine input { type filter hook input priority 0; policy accept; }; add rule inet mine input tcp dport 23 drop"
  printf '%s\n' "ListenAddress $address" "HostKey $home/host_key" "AuthorizedKeysFile $work/key.pub" "StrictModes no" \
    "UsePAM no" "UseDNS no" "PermitRootLogin prohibit-password" "PasswordAuthentication no" "PidFile none" >"$home/sshd_config"
  ip netns exec "$mark-$name" unshare --mount --pid --fork --kill-child --mount-proc sh -ec "
    mount --bind '$home/lib' /var/lib; mount -t tmpfs none /run; mkdir /run/sshd
    exec /usr/sbin/sshd -D -e -f '$home/sshd_config'" >"$home/log" 2>&1 &
  hosts+=($!)
  printf '%s %s\n' "$address" "$(cat "$home/host_key.pub")" >>"$work/known_hosts"
  printf '[nodes.%s]\nhost = "%s"\n' "$name" "$address" >>"$work/nodes.toml"
  # Some are known by their own entry, the others by the file.
  [ "$1" -gt 2 ] || printf 'host_key = "%s"\n' "$(cat "$home/host_key.pub")" >>"$work/nodes.toml"
}
printf '[defaults]\nkey = "key"\nknown_hosts = "known_hosts"\n' >"$work/nodes.toml"
touch "$work/known_hosts"
for number in 1 2 3 4 5; do host "$number"; done

on() {  # on INDEX CMD...: in the namespaces of a host
  local child; child=$(pgrep -P "${hosts[$1]}"); shift
  nsenter --net --mount --pid --target "$child" "$@"
}

# What could be left on a host: files, rules, queues, processes; and here.
traces() {
  local index
  for index in 0 1 2 3 4; do
    echo "n$((index + 1)):"
    on "$index" sh -c '
      ls -A /var/lib; ls -AR /var/lib/splitvote 2>/dev/null; tc qdisc show dev lan0; ip -d link show dev lan0
      nft list ruleset 2>/dev/null; iptables-save 2>/dev/null | grep "^-"
      cat /proc/[0-9]*/comm | grep -v "^sshd\|^sh$\|^cat$\|^grep$\|^nsenter$"' || true
  done
  pgrep -af "$work" | grep -v "ssh.sh\|sshd" || true
}

expect_no_traces() {  # expect_no_traces WHAT: as it was before
  for _ in $(seq 100); do  # sessions of sshd take a moment to end
    if [ "$(traces)" == "$before" ]; then return 0; fi
    sleep 0.1
  done
  echo "$1 left traces:"; diff <(echo "$before") <(traces) || true; exit 1
}

start() {  # start FILE STORE FAULTS SECONDS ARGS...
  local file=$1 store=$2 families=$3 time=$4; shift 4
  hub "$bin/splitvote" run register --cluster ssh --nodes-file "$work/$file" --faults "$families" --time "$time" \
    --rate 200 --seed "$seed" --store "$store" "$@"
}

whole() {  # whole FILE FAULTS ARGS...: a whole run, its verdict and its faults
  local file=$1 families=$2 status=0; shift 2
  echo "== $file: $families, $seconds s"
  start "$file" "$work/store" "$families" "$seconds" "$@" >"$work/output" 2>&1 || status=$?
  [ -z "${KEEP:-}" ] || cp -a "$work/store/." "$KEEP/"
  if [ "$status" -ne 0 ] || ! "$bin/python" tests/acceptance/proven.py "$work/store/latest" "$families"; then
    tail -n 40 "$work/output"; echo "exit $status"; exit 1
  fi
  rm -rf "$work/store"
  expect_no_traces "a run"
}

killed() {  # killed FILE FAMILY DESCRIPTION ARGS...: a harness that is killed in the middle of a fault, and healed
  local file=$1 family=$2 description=$3 harness journal=$work/killed/latest/faults.jsonl; shift 3
  echo "== $file: SIGKILL in the middle of a fault ($family), then heal"
  start "$file" "$work/killed" "$family" 600 --interval 3 "$@" >"$work/output" 2>&1 &
  harness=$!
  for _ in $(seq 900); do grep -qs '"phase":"active"' "$journal" && break; sleep 0.1; done
  grep -qs '"phase":"active"' "$journal" || { tail -n 20 "$work/output"; echo "no fault began"; exit 1; }
  kill -KILL "$("$bin/python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["harness"]["pid"])' \
    "$work/killed/latest/$description")"
  wait "$harness" 2>/dev/null || true
  hub "$bin/splitvote" heal "$work/killed/latest/"
  hub "$bin/splitvote" heal "$work/killed/latest/" | grep -q "nothing to heal"
  expect_no_traces "a harness that was killed in the middle of $family"
  rm -rf "$work/killed"
}

for index in 0 1 2 3 4; do
  for _ in $(seq 100); do grep -q "Server listening" "$work/n$((index + 1))/log" && break; sleep 0.1; done
  grep -q "Server listening" "$work/n$((index + 1))/log" || { cat "$work/n$((index + 1))/log"; exit 1; }
done

if [[ $parts == *ours* ]]; then
  before=$(traces)
  whole nodes.toml "$faults" --etcd "$etcd"
  for family in ${killed//,/ }; do killed nodes.toml "$family" nodes.json --etcd "$etcd"; done
fi
[[ $parts == *services* ]] || { echo "ssh: the run VALID, every fault proven and healed, nothing left on the hosts"; exit 0; }

# An etcd of the hosts' own, with a key of somebody's.
members=$(for number in 1 2 3 4 5; do printf 'n%s=http://198.18.7.1%s:2380,' "$number" "$number"; done)
for number in 1 2 3 4 5; do
  home=$work/n$number/lib/mine address=198.18.7.1$number
  mkdir -p "$home"
  cat >"$home/start" <<END
setsid "$etcd" --name n$number --data-dir /var/lib/mine/data --initial-cluster "${members%,}" --logger zap \
  --listen-peer-urls http://$address:2380 --initial-advertise-peer-urls http://$address:2380 \
  --listen-client-urls http://$address:2379 --advertise-client-urls http://$address:2379 >>/var/lib/mine/log 2>&1 </dev/null &
echo \$! >/var/lib/mine/pid
END
  on $((number - 1)) sh /var/lib/mine/start
done
sed 's/^\[defaults\]$/&\nstart = "sh \/var\/lib\/mine\/start"\nstop = "kill $(cat \/var\/lib\/mine\/pid)"\nkill = "kill -KILL $(cat \/var\/lib\/mine\/pid)"\npidfile = "\/var\/lib\/mine\/pid"\nlog = "\/var\/lib\/mine\/log"/' \
  "$work/nodes.toml" >"$work/services.toml"
etcdctl() { ETCDCTL_API=3 hub "$(dirname "$etcd")/etcdctl" --endpoints 198.18.7.11:2379 "$@"; }
for _ in $(seq 300); do etcdctl put theirs untouched >/dev/null 2>&1 && break; sleep 0.1; done
before=$(traces)

whole services.toml "$service_faults"
[ "$(etcdctl get --prefix '' --print-value-only)" == untouched ] || { etcdctl get --prefix ''; echo "the store is not as it was"; exit 1; }
if start services.toml "$work/refused" member 5 >"$work/output" 2>&1; then echo "member was not refused"; exit 1; fi
grep -q "not the harness's to remove" "$work/output" || { cat "$work/output"; exit 1; }
for family in kill pause; do killed services.toml "$family" attached.json; done
[ "$(etcdctl get --prefix '' --print-value-only)" == untouched ] || { etcdctl get --prefix ''; echo "the store is not as it was"; exit 1; }
echo "ssh: the runs VALID, every fault proven and healed, nothing left on the hosts"
