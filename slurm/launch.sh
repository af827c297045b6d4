# shellcheck shell=bash
# Sourced by the batch scripts, which submit themselves to sbatch and inside the job run commands once per GPU.
#
# NODES, GPUS (a node), CPUS (a GPU), TIME, LAUNCHER (srun or torchrun) are set by the caller.

NODES=${NODES:-1} GPUS=${GPUS:-1} CPUS=${CPUS:-8} TIME=${TIME:-00:30:00} LAUNCHER=${LAUNCHER:-srun}
# sbatch runs a copy of the script from a folder of its own, so the place of the project is handed on.
PROJECT=${PROJECT:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}

# submit SBATCH-OPTIONS... -- SCRIPT ARGUMENTS...: returns inside a job (or in the shell of salloc), else submits and ends.
submit() {
    [[ -z ${SLURM_JOB_ID:-} ]] || return 0
    local options=()
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    case $LAUNCHER in
        srun) options+=(--ntasks-per-node="$GPUS" --cpus-per-task="$CPUS") ;;
        torchrun) options+=(--ntasks-per-node=1 --cpus-per-task="$((CPUS * GPUS))") ;;
        *) fail "LAUNCHER=$LAUNCHER: srun or torchrun" ;;
    esac
    mkdir -p "$OUT"
    export PROJECT NODES GPUS CPUS LAUNCHER OUT
    exec sbatch --nodes="$NODES" --time="$TIME" --output="$OUT/%x-%j.log" "${options[@]}" "$@"
}

# once_per_gpu COMMAND...: run it in every process of the job; main.py and collect.py find out which one they are.
# Signals to this shell are handled at once, not after the command's end.
once_per_gpu() {
    start_processes "$@" &
    local child=$! code
    trap 'kill "$child" 2> /dev/null; exit 143' TERM
    until wait "$child"; do # a handled signal ends a wait, too
        code=$?
        kill -0 "$child" 2> /dev/null || return "$code"
    done
}

# Becomes srun, so that a signal to the process reaches it.
start_processes() {
    # gpu-bind=none: every task sees all GPUs of its node, which NCCL needs for direct copies; each takes its own.
    if [[ $LAUNCHER == srun ]]; then
        exec srun --ntasks-per-node="$GPUS" --cpus-per-task="$CPUS" --gpu-bind=none "$@"
    fi
    local meeting=(--standalone) hosts
    if ((NODES > 1)); then
        mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
        meeting=(--rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="${hosts[0]}:$((10000 + SLURM_JOB_ID % 20000))")
    fi
    exec srun --ntasks-per-node=1 --cpus-per-task="$((CPUS * GPUS))" --gpu-bind=none \
        torchrun --nnodes="$NODES" --nproc-per-node="$GPUS" "${meeting[@]}" --no-python "$@"
}

# requeue_at SIGNAL FILE: at the signal that the time is almost up, have the job start again if it wrote FILE meanwhile.
requeue_at() {
    written_by_job=$2 began=$(date +%s)
    trap requeue "$1"
}

requeue() {
    if (($(stat -c %Y "$written_by_job" 2> /dev/null || echo 0) >= began)); then
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo "$written_by_job was not written in this job's time, so the next would get no farther: give more TIME" >&2
    fi
}

# pause_dcgm: NVIDIA's monitor holds the GPUs' counters; pause it on every node until this script ends, however it ends.
pause_dcgm() {
    trap 'on_every_node dcgmi profile --resume || echo "DCGM could not be resumed: dcgmi profile --resume" >&2' EXIT
    on_every_node dcgmi profile --pause || fail "DCGM could not be paused, and while it reads the counters nobody else can"
}

on_every_node() {
    srun --overlap --nodes="$NODES" --ntasks="$NODES" --ntasks-per-node=1 "$@"
}

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 2
}
