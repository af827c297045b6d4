#!/usr/bin/env bash
# Train, evaluate, predict or profile on Perlmutter (NERSC): one GPU, four, or several nodes.
#
#   export ACCOUNT=m1234 PYTHON_ENV=/global/common/software/m1234/detr OUT=$SCRATCH/runs/r50
#   QOS=shared            bash slurm/perlmutter.sh --coco_path "$SCRATCH/coco"        1 GPU
#   QOS=regular GPUS=4    bash slurm/perlmutter.sh --coco_path "$SCRATCH/coco"        a node
#   QOS=regular GPUS=4 NODES=4 LAUNCHER=torchrun TIME=12:00:00 bash slurm/perlmutter.sh --coco_path "$SCRATCH/coco"
#   QOS=shared            bash slurm/perlmutter.sh evaluate --coco_path "$SCRATCH/coco"
#   sbatch --account=m1234 --qos=shared slurm/perlmutter.sh --coco_path "$SCRATCH/coco"    the same by hand, from any folder
#
# All variables are listed in launch.sh; the page for beginners is README.md. CONSTRAINT: "gpu&hbm80g" for 80 GB.
#SBATCH --job-name=detr
#SBATCH --constraint=gpu
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=00:30:00
#SBATCH --output=%x-%j.log
#SBATCH --error=%x-%j.err
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
set -euo pipefail
here=${DETR_PROJECT:+$DETR_PROJECT/slurm}
here=${here:-$(dirname "$0")}
# sbatch runs a copy of this file from a folder of its own; the job knows which file it was, and where sbatch was typed.
if [[ ! -f $here/launch.sh ]]; then
    here=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's|^ *Command=\(.*\)/[a-z]*\.sh.*|\1|p')
    [[ -f $here/launch.sh ]] || here=$SLURM_SUBMIT_DIR/slurm
fi
# shellcheck source=slurm/launch.sh
source "$here/launch.sh"
CPUS_OF_A_GPU=32 # of a node's 128, for each of its 4 GPUs
CONSTRAINT=${CONSTRAINT:-gpu}
DCGM=pause # it watches every GPU there
need_or_know ACCOUNT "the project that pays: ACCOUNT=m1234, or sbatch --account=m1234" SLURM_JOB_ACCOUNT
[[ -n ${SLURM_JOB_ID:-} ]] || need QOS "the queue: shared (1 or 2 GPUs), regular, debug, preempt"
export SLURM_CPU_BIND=cores
export FI_MR_CACHE_MONITOR=userfaultfd # Slingshot's memory cache, as NERSC advises for NCCL
run_job --gpus-per-node= "$0" "$@"
