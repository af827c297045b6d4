# shellcheck shell=bash
# Sourced by the scripts of the clusters: outside of a job `run_job` submits them to sbatch, inside it starts the programs.
#
# Variables that any script takes; those marked * have to be set:
#   PYTHON_ENV*  folder of a conda or venv environment with the packages of requirements.txt, or the name of a conda environment
#   CONTAINER     instead of it: what stands before the command in each process, e.g. "apptainer exec --nv detr.sif"
#   OUT*          folder for checkpoints, logs and results, seen from every node
#   ACCOUNT QOS PARTITION CONSTRAINT MEMORY   sbatch's --account, --qos, --partition, --constraint, --mem
#   GPUS NODES CPUS TIME   GPUS of each of NODES, CPUS for each GPU, TIME as hours:minutes:seconds
#   MODULES       what `module load` loads, in its order
#   MAIL_TO       an address that hears of end, failure and requeue
#   LAUNCHER      srun: a task for each GPU; or torchrun: a task for each node
#   CHECKPOINT    what evaluate and predict take instead of $OUT/best.pth
#   SBATCH_MORE   more options of sbatch, separated by spaces

DETR_PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# run_job GPU-OPTION SCRIPT [train|evaluate|predict|profile] FLAGS...: GPU-OPTION is sbatch's, up to the number of GPUs.
run_job() {
    local gpu_option=$1 script=$2 job=train
    shift 2
    case ${1:--} in
        train | evaluate | predict | profile) job=$1 && shift ;;
        -*) ;;
        *) fail "$1: train, evaluate, predict or profile, and then flags" ;;
    esac
    [[ -n ${CONTAINER:-} ]] || need PYTHON_ENV "folder of the conda or venv environment, or the name of a conda environment"
    need OUT "folder for checkpoints, logs and results, seen from every node"
    count_resources "$job"
    mkdir -p "$OUT"
    if [[ -z ${SLURM_JOB_ID:-} ]]; then # in a job, or in the shell of salloc, it is there
        submit "$job" "$gpu_option$GPUS" "$script" "$job" "$@"
    fi
    enter_environment
    "run_$job" "$@"
}

# need VARIABLE MEANING: ends the script where it is not set.
need() {
    [[ -n ${!1:-} ]] || fail "$1: not set: $2"
}

# need_or_know VARIABLE MEANING SLURM-VARIABLE: as `need`, but a job that was submitted by hand knows it from Slurm.
need_or_know() {
    [[ -n ${!1:-} || -z ${SLURM_JOB_ID:-} ]] || printf -v "$1" %s "${!3:-}"
    need "$1" "$2"
}

# GPUS, NODES, CPUS and LAUNCHER as given, else as those of the job, which sbatch may have been told by hand.
count_resources() {
    [[ $1 != predict ]] || GPUS=1 NODES=1
    NODES=${NODES:-${SLURM_JOB_NUM_NODES:-1}} TIME=${TIME:-00:30:00}
    GPUS=${GPUS:-${SLURM_GPUS_ON_NODE:-${SLURM_NTASKS_PER_NODE:-1}}}
    local tasks=${SLURM_NTASKS_PER_NODE:-$GPUS}
    [[ -n ${LAUNCHER:-} ]] || { ((tasks < GPUS)) && LAUNCHER=torchrun || LAUNCHER=srun; }
    local of_job=${SLURM_CPUS_PER_TASK:-}
    case $LAUNCHER in
        srun) CPUS=${CPUS:-${of_job:-$CPUS_OF_A_GPU}} step=(--ntasks-per-node="$GPUS" --cpus-per-task="$CPUS") ;;
        torchrun)
            CPUS=${CPUS:-$((${of_job:-$((CPUS_OF_A_GPU * GPUS))} / GPUS))}
            step=(--ntasks-per-node=1 --cpus-per-task="$((CPUS * GPUS))")
            ;;
        *) fail "LAUNCHER=$LAUNCHER: srun or torchrun" ;;
    esac
}

# submit JOB GPU-OPTION SCRIPT ARGUMENTS...: becomes sbatch.
submit() {
    local name option more
    local job=$1 options=(--job-name="detr-$1" --nodes="$NODES" --time="$TIME" "${step[@]}" "$2")
    options+=(--output="$OUT/%x-%j.log" --error="$OUT/%x-%j.err")
    shift 2
    for option in account=ACCOUNT qos=QOS partition=PARTITION constraint=CONSTRAINT mem=MEMORY mail-user=MAIL_TO; do
        name=${option#*=}
        [[ -z ${!name:-} ]] || options+=("--${option%%=*}=${!name}")
    done
    [[ -z ${MAIL_TO:-} ]] || options+=("--mail-type=END,FAIL,REQUEUE")
    # Whose end must be seen by the script itself, for DCGM's sake; the header's signal is for programs that save.
    [[ $job != profile ]] || options+=(--signal=B:TERM@60)
    read -ra more <<< "${SBATCH_MORE:-}"
    export DETR_PROJECT NODES GPUS CPUS LAUNCHER OUT
    exec sbatch "${options[@]}" "${more[@]}" "$@"
}

enter_environment() {
    local modules
    read -ra modules <<< "${MODULES:-}"
    set +u # the modules' own shell code, and conda's, read variables that are not set
    # shellcheck disable=SC1091
    ((${#modules[@]} == 0)) || module load "${modules[@]}"
    case ${CONTAINER:+in-a-container}${PYTHON_ENV:-} in
        in-a-container*) ;;
        */*) export PATH="$PYTHON_ENV/bin:$PATH" ;;
        *)
            # shellcheck disable=SC1091
            source activate "$PYTHON_ENV"
            ;;
    esac
    set -u
    export OMP_NUM_THREADS=1
    cd "$DETR_PROJECT" || fail "$DETR_PROJECT: no such folder"
}

# At SIGUSR1, which --signal sends before the time is up, main.py saves and puts its job back into the queue.
run_train() {
    once_per_gpu python main.py --output_dir "$OUT" --resume auto "$@"
}

run_evaluate() {
    once_per_gpu python main.py --eval --resume "${CHECKPOINT:-$OUT/best.pth}" --output_dir "$OUT/evaluation" "$@"
}

run_predict() {
    once_per_gpu python predict.py --resume "${CHECKPOINT:-$OUT/best.pth}" --output "$OUT/predictions" "$@"
}

run_profile() {
    # shellcheck source=roofline-on-nvidia-gpus/custom-scripts/collect_sections.sh
    source "$DETR_PROJECT/roofline-on-nvidia-gpus/custom-scripts/collect_sections.sh"
    collect_sections "$@"
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
    local start=(srun --nodes="$NODES" "${step[@]}" --gpu-bind=none bash "$DETR_PROJECT/slurm/guarded.sh") hosts container
    read -ra container <<< "${CONTAINER:-}"
    [[ $LAUNCHER == torchrun ]] || exec "${start[@]}" "${container[@]}" "$@"
    ((${#container[@]} == 0)) || fail "CONTAINER and LAUNCHER=torchrun do not go together: LAUNCHER=srun"
    local meeting=(--standalone)
    if ((NODES > 1)); then
        mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
        meeting=(--rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="${hosts[0]}:$((10000 + SLURM_JOB_ID % 20000))")
    fi
    exec "${start[@]}" torchrun --nnodes="$NODES" --nproc-per-node="$GPUS" "${meeting[@]}" --no-python "$@"
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
