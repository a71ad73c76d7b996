#!/usr/bin/env bash
# A test cluster: Slurm with several nodes on one machine. Every node is a slurmd with its own name and port, every GPU
# a dummy device file. Needs root, slurmctld, slurmd, slurm-client and munge (apt); no systemd, no cgroups. Outside DIR
# it only adds names to /etc/hosts and starts processes; `down` removes both.
#
#   scripts/slurm/cluster.sh up DIR [NODES [GPUS]]     (2 nodes of 2 GPUs) prints the export that makes commands use it
#   scripts/slurm/cluster.sh down DIR
#
# Partition `low` (the default) is preempted by `high`: TERM, 10 s, then requeued. Arrays have at most 6 tasks.
set -euo pipefail

usage() {
    echo "usage: $0 up DIR [NODES [GPUS]] | down DIR" >&2
    exit 2
}

[ $# -ge 2 ] || usage
verb=$1
mkdir -p "$2"
dir=$(realpath "$2")
mark="# mixlaw cluster $dir"
export SLURM_CONF=$dir/slurm.conf

free_ports() { # print the first of $1 consecutive free ports
    python3 - "$1" <<'PYTHON'
import random, socket, sys

def is_free(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0

n = int(sys.argv[1])
starts = random.sample(range(20000, 32000 - n), 50)
print(next(first for first in starts if all(is_free(p) for p in range(first, first + n))))
PYTHON
}

write_config() { # $1 nodes, $2 GPUs on each
    local host port
    host=$(hostname -s)
    port=$(free_ports $(($1 + 1)))
    cat >"$dir/slurm.conf" <<CONF
ClusterName=mixlaw
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/pids/slurmctld
SlurmdPidFile=$dir/pids/%n
SlurmctldLogFile=$dir/log/slurmctld
SlurmdLogFile=$dir/log/%n
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/log/ended
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=5
MaxArraySize=6
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
NodeName=mixlaw[1-$1] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + $1))] CPUs=16 Gres=gpu:$2
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF
CONF
    echo "NodeName=mixlaw[1-$1] Name=gpu File=$dir/dev/gpu[0-$(($2 - 1))] Flags=nvidia_gpu_env" >"$dir/gres.conf"
}

start_munge() { # authentication between the daemons: one key, readable by root only
    install -d -m 700 "$dir/munge"
    (umask 077 && head -c 128 /dev/urandom >"$dir/munge/key")
    chmod 711 "$dir/munge"
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/pids/munged" \
        --seed-file="$dir/munge/seed" --log-file="$dir/log/munged" 2>>"$dir/log/munged.start"
}

nodes_are_idle() { # $1: how many there should be
    [ "$(sinfo --noheader --Node --partition=low --states=idle 2>/dev/null | wc -l)" -eq "$1" ]
}

wait_for() { # wait at most 30 s until a command succeeds
    for _ in $(seq 300); do
        "$@" && return
        sleep 0.1
    done
    echo "$0: '$*' did not succeed within 30 s; see $dir/log" >&2
    return 1
}

up() { # $1 nodes, $2 GPUs on each
    local i
    mkdir -p "$dir"/{state,spool,log,pids,dev}
    for i in $(seq 0 $(($2 - 1))); do
        [ -e "$dir/dev/gpu$i" ] || mknod "$dir/dev/gpu$i" c 1 3 # plain files give no CUDA_VISIBLE_DEVICES
    done
    for i in $(seq "$1"); do # so that the name of a job's first node resolves
        mkdir -p "$dir/spool/mixlaw$i"
        echo "127.0.0.1 mixlaw$i $mark" >>/etc/hosts # marked, so that down removes only its own names
    done
    write_config "$1" "$2"
    start_munge
    slurmctld -c
    for i in $(seq "$1"); do
        slurmd -N "mixlaw$i"
    done
    wait_for nodes_are_idle "$1"
    echo "export SLURM_CONF=$SLURM_CONF"
}

queue_is_empty() { [ -z "$(squeue --noheader 2>/dev/null)" ]; }

down() {
    local hosts pid pids
    if squeue --noheader >/dev/null 2>&1; then
        scancel --user=root 2>/dev/null || true
        scancel --user=root --signal=KILL --full 2>/dev/null || true # jobs that ignore TERM
        wait_for queue_is_empty || true
    fi
    mapfile -t pids < <(cat "$dir"/pids/* 2>/dev/null)
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        wait_for eval "! kill -0 $pid 2>/dev/null" || kill -KILL "$pid"
    done
    hosts=$(grep -v -- "$mark\$" /etc/hosts || true)
    echo "$hosts" >/etc/hosts # overwritten, not replaced: some containers mount this file
}

case $verb in
    up) up "${3:-2}" "${4:-2}" ;;
    down) down ;;
    *) usage ;;
esac
