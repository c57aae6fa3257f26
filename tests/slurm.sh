#!/usr/bin/env bash
# A sweep on a real SLURM, on this one machine: an array over 12 runs, with the node taken down and brought back, one task
# killed, tasks put back into the queue by their time limit, and the array cancelled. What is left is submitted again; then every result must
# equal that of the same sweep trained locally. Takes about six minutes.
#
# Needs Linux, root, and Debian's packages slurm-wlm and munge, which it installs where apt is there. It keeps to a
# directory and to ports of its own, and touches no SLURM that is configured already.
#
#   tests/slurm.sh [PROGRAM]        PROGRAM is target/release/ccdni by default, and is built if it is not there
#
# Exit code: 0 all is as it should be, 1 something is not, 77 it cannot be tried here.
set -euo pipefail

cannot() { echo "CANNOT BE TRIED HERE: $*" >&2; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }
say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }

root=$(cd "$(dirname "$0")/.." && pwd)
program=${1:-$root/target/release/ccdni}

# What has to be there.
[ "$(uname -s)" = Linux ] || cannot "SLURM's daemons need Linux"
[ "$(id -u)" = 0 ] || cannot "the daemons need root (sudo just slurm-test)"
if ! command -v slurmctld slurmd munged sbatch >/dev/null 2>&1; then
  command -v apt-get >/dev/null || cannot "there is no slurmctld, slurmd and munged, and no apt-get to install them"
  say "installing slurm-wlm and munge"
  # The packages' own services are not wanted: they would need a configuration.
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge; } >/tmp/ccdni-slurm-apt.log 2>&1 ||
    cannot "apt-get could not install slurm-wlm and munge (see /tmp/ccdni-slurm-apt.log)"
fi
if [ ! -x "$program" ]; then
  command -v cargo >/dev/null || cannot "there is no $program, and no cargo to build it"
  say "building the program"
  (cd "$root" && cargo build --quiet --release --locked)
fi

# A place of its own; the daemons die with the script.
work=$(mktemp -d /tmp/ccdni-slurm.XXXXXX)
daemons=()
clean_up() {
  status=$?
  # Tasks outlive the daemons.
  if [ "${#daemons[@]}" = 3 ]; then
    for job in $(squeue -h -o %A 2>/dev/null); do scancel "$job" 2>/dev/null || true; done
    for _ in $(seq 40); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep 0.5; done
  fi
  for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do kill "${daemons[i]}" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [ $status = 0 ]; then rm -rf "$work"; else echo "logs and results are in $work" >&2; fi
}
trap clean_up EXIT

node=$(hostname -s)
mkdir "$work/state" "$work/spool" "$work/munge"
# Whoever submits must reach the socket.
chmod 755 "$work" "$work/munge"
head -c 1024 /dev/urandom >"$work/munge/key"
chmod 600 "$work/munge/key"
cat >"$work/slurm.conf" <<END
ClusterName=ccdni-test
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket,cred_expire=10
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=0
KillWait=10
SlurmdParameters=config_overrides
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$work/slurm.conf

start() {
  "$@" >>"$work/daemons.log" 2>&1 &
  daemons+=($!)
}
start munged --foreground --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
  --log-file="$work/munge/log" --seed-file="$work/munge/seed"
for _ in $(seq 50); do [ -S "$work/munge/socket" ] && break; sleep 0.1; done
[ -S "$work/munge/socket" ] || fail "munged does not start: $(tail -3 "$work/daemons.log")"
start slurmctld -D
start slurmd -D
up() { [ "$(sinfo -h -o %T 2>/dev/null)" = "$1" ]; }
until_true() { # seconds, words, command...
  local end=$((SECONDS + $1)) words=$2
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || fail "waited in vain for $words"
    sleep 0.3
  done
}
until_true 30 "the node to be idle (see $work/slurmd.log)" up idle
say "SLURM $(sinfo --version | cut -d' ' -f2) is up: one node, two cores"

# Twelve runs of some seconds each.
cat >"$work/sweep.yaml" <<END
name: slurm-test
task: {kind: linedraw, train_size: 400, test_size: 50}
model:
  layers: [{cell: lstm, hidden: 20}]
train: {epochs: EPOCHS, batch_size: 20, bptt: 1, feedback_every: 2}
run: {device: cpu, checkpoint_every: 500ms}
sweep:
  grid:
    model.layers.0.dni: [null, {hidden: [30]}]
    train.bptt: [1, 2, 3, 4, 5, 6]
launcher:
  kind: slurm
  partition: main
  time: 1
  grace: 10
  tasks: 4
  at_once: 2
END
# As many epochs as take about this many seconds here.
seconds=${UNIT_SECONDS:-20}
sed 's/EPOCHS/40/' "$work/sweep.yaml" >"$work/short.yaml"
"$program" sweep "$work/short.yaml" --launcher local --outputs "$work/short" --jobs 2 >"$work/short.log"
took=$(awk '/^training took/ { print $3 }' "$work/short.log")
epochs=$(awk -v took="$took" -v seconds="$seconds" 'BEGIN { print int(40 * seconds / (took / 12)) }')
sed -i "s/EPOCHS/$epochs/" "$work/sweep.yaml"
say "a unit is $epochs epochs"
begun=$SECONDS
"$program" sweep "$work/sweep.yaml" --launcher local --outputs "$work/local" >"$work/local.log" 2>&1
say "trained locally in $((SECONDS - begun)) s"

outputs=$work/outputs
sweep() { "$program" sweep "$work/sweep.yaml" --outputs "$outputs" "$@"; }
submit() { sweep | tee "$work/submitted.log" | sed 's/^/    /'; }
done_units() { sweep --status | awk '/^12 runs/ { print $5 }'; }
running_units() { grep -ls '"pid"' "$outputs"/*/seeds/*/lock 2>/dev/null || true; }
is_training() { [ -n "$(running_units)" ]; }
is_queued() { [ -n "$(squeue -h)" ]; }
is_over() { ! is_queued; }
none_runs() { [ -z "$(squeue -h -t running,completing)" ]; }
# SLURM lets a requeued task wait for minutes, since it might disturb again; here that is known.
hurry() { for job in $(squeue -h -t pending -o %A); do scontrol update "jobid=$job" starttime=now >/dev/null 2>&1 || true; done; }
went_back() {
  # Everything must not be over before the time limit is.
  is_queued || fail "the units were too short for a time limit: try UNIT_SECONDS=40"
  hurry
  grep -qs 'back into the queue' "$outputs"/.slurm/*.log
}

submit
until_true 60 "a unit to be trained" is_training
sleep 3
say "in the middle of it:"
sweep --status | sed 's/^/    /'

say "the node goes down"
scontrol update "nodename=$node" state=down reason=test
until_true 60 "the tasks to be gone" none_runs
sleep 2
scontrol update "nodename=$node" state=resume
hurry
until_true 120 "a unit to be trained after the node came back" is_training
say "the node is back: $(done_units) of 12 done, and trained on"

sleep 2
# The claim names the worker; its parent is the task.
lock=$(running_units | head -1)
worker=$(sed 's/.*"pid":\([0-9]*\).*/\1/' "$lock")
task=$(awk '/^PPid:/ { print $2 }' "/proc/$worker/status")
grep -q array-task <(tr '\0' ' ' <"/proc/$task/cmdline") || fail "process $task is no task of the array"
kill -9 "$task" "$worker"
say "killed a task and its worker with signal 9: $(sed 's/.*"job":"\([^"]*\)".*/job \1/' "$lock")"

until_true 120 "a task to go back into the queue before its time limit" went_back
say "a task went back into the queue before its time limit:"
sleep 1
! grep -h 'could not go back' "$outputs"/.slurm/*.log || fail "SLURM did not take it back"
grep -h 'back into the queue' "$outputs"/.slurm/*.log | sort | uniq -c | sed 's/^/    /'

# Cancelled tasks write their checkpoints too, and must not come back by themselves.
scancel "$(awk '/^ *submitted job/ { sub(":", "", $3); print $3 }' "$work/submitted.log")"
until_true 60 "the cancelled array to be gone" is_over
say "cancelled the array: $(done_units) of 12 units are done, $(sweep --status | grep '^no task' || echo nothing is left)"
if [ "$(done_units)" != 12 ]; then
  say "submitting again"
  submit
fi

for attempt in 1 2 3; do
  end=$((SECONDS + 400))
  while is_queued; do
    hurry
    [ "$SECONDS" -lt "$end" ] || fail "the array does not end: $(squeue)"
    sleep 1
  done
  say "the array is over: $(done_units) of 12 units are done"
  sweep --status | grep -E '^(cluster|no task)' | sed 's/^/    /' || true
  [ "$(done_units)" = 12 ] && break
  say "submitting again ($attempt)"
  submit
done
[ "$(done_units)" = 12 ] || fail "units are missing: $(sweep --status)"

# Equal to the last bit, but for the clock.
without_seconds() {
  awk -F, -v OFS=, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "seconds") clock = i } { $clock = ""; print }' "$1"
}
units=0
for unit in "$work"/local/*/seeds/*; do
  other=$outputs${unit#"$work/local"}
  cmp "$unit/decoder.safetensors" "$other/decoder.safetensors" || fail "weights differ"
  cmp <(without_seconds "$unit/metrics.csv") <(without_seconds "$other/metrics.csv") || fail "metrics differ"
  units=$((units + 1))
done
[ "$units" = 12 ] || fail "there are $units units, not 12"
twice=$(for log in "$outputs"/*/log.txt; do [ "$(grep -c 'seed 1: done$' "$log")" -le 1 ] || echo "$log"; done)
[ -z "$twice" ] || fail "trained twice: $twice"
say "all 12 results equal the local ones: metrics without the clock, and the bytes of the weights; none was trained twice"
resumed=$(cat "$outputs"/*/log.txt | grep -c 'goes on from its checkpoint' || true)
say "units went on from a checkpoint $resumed times"
echo PASSED
