#!/usr/bin/env bash
# A real Slurm of one node on this machine, for tests: one_node.sh start|stop DIR; no root, no service of the system is used.
#
# Debian's packages slurm-wlm and munge: apt-get install --no-install-recommends slurm-wlm munge. The node has the feature
# `gpu`, 128 cores and two GPUs, on paper. After start: export SLURM_CONF=DIR/slurm.conf.
set -euo pipefail
dir=$(mkdir -p "${2:?start or stop, and a folder}" && cd "$2" && pwd)
PATH=$PATH:/usr/sbin

# Ports that nobody listens on, below those that programs are given at random.
free_port() {
    local port
    for port in $(seq "$1" $(($1 + 200))); do
        (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null || { echo "$port" && return; }
    done
}

start() {
    for program in munged slurmctld slurmd sbatch; do
        command -v "$program" > /dev/null || { echo "one_node.sh: no $program: apt-get install slurm-wlm munge" >&2 && exit 3; }
    done
    mkdir -p "$dir"/{munge,state,spool}
    chmod 700 "$dir/munge"
    head -c 128 /dev/urandom > "$dir/munge/key"
    chmod 600 "$dir/munge/key"
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munged.pid" \
        --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
    local host controller
    host=$(hostname -s) controller=$(free_port 16817)
    printf 'NodeName=%s Name=gpu File=%s\n' "$host" /dev/null "$host" /dev/zero > "$dir/gres.conf"
    cat > "$dir/slurm.conf" << CONF
ClusterName=one-node
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
SlurmdPort=$(free_port $((controller + 1)))
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CryptoType=crypto/munge
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
GresTypes=gpu
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmdSpoolDir=$dir/spool
StateSaveLocation=$dir/state
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# More cores than there are: the scripts' own figures are taken as they stand.
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=128 RealMemory=4000 Features=gpu Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    export SLURM_CONF=$dir/slurm.conf
    slurmctld
    slurmd
    for _ in $(seq 50); do
        [[ $(sinfo --noheader --format=%t 2> /dev/null) == idle ]] && return
        sleep 0.2
    done
    echo "one_node.sh: the node is not idle after 10 s: $dir/slurmctld.log and slurmd.log say why" >&2
    exit 1
}

stop() {
    local daemon
    for daemon in slurmd slurmctld munged; do
        [[ ! -s $dir/$daemon.pid ]] || kill "$(cat "$dir/$daemon.pid")" || true
    done
    # slurmd waits for a job that is still ending; its folder is about to go.
    sleep 2
    [[ ! -s $dir/slurmd.pid ]] || kill -KILL "$(cat "$dir/slurmd.pid")" 2> /dev/null || true
}

"$1"
