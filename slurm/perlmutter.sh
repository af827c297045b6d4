#!/usr/bin/env bash
# Train on Perlmutter (NERSC): one GPU, four, or several nodes. Arguments after the script's name go to main.py.
#
#   export ACCOUNT=m1234 ENVIRONMENT=/global/common/software/m1234/detr OUT=$SCRATCH/runs/r50
#   QOS=shared            bash slurm/perlmutter.sh --coco_path "$SCRATCH/coco"        1 GPU
#   QOS=regular GPUS=4    bash slurm/perlmutter.sh --coco_path "$SCRATCH/coco"        a node
#   QOS=regular GPUS=4 NODES=4 LAUNCHER=torchrun TIME=12:00:00 bash slurm/perlmutter.sh --coco_path "$SCRATCH/coco"
#
# ENVIRONMENT: folder of a conda or venv environment with the packages of requirements.txt. CONSTRAINT: "gpu&hbm80g" for 80 GB.
# A job that is preempted or runs out of time starts again and resumes from its last checkpoint, if it wrote one.
#SBATCH --job-name=detr
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail
: "${ACCOUNT:?the project that pays, e.g. ACCOUNT=m1234}" "${QOS:?the queue: shared (1 or 2 GPUs), regular, debug, preempt}"
: "${ENVIRONMENT:?folder of the conda or venv environment}" "${OUT:?folder for checkpoints and logs, on \$SCRATCH}"
CPUS=${CPUS:-32} # of a node's 128, for each of its 4 GPUs
# shellcheck source=slurm/launch.sh
source "${PROJECT:-$(dirname "$0")/..}/slurm/launch.sh"
submit --account="$ACCOUNT" --qos="$QOS" --constraint="${CONSTRAINT:-gpu}" --gpus-per-node="$GPUS" -- "$0" "$@"

export PATH="$ENVIRONMENT/bin:$PATH" OMP_NUM_THREADS=1 SLURM_CPU_BIND=cores
export FI_MR_CACHE_MONITOR=userfaultfd # Slingshot's memory cache, as NERSC advises for NCCL
cd "$PROJECT"
requeue_at USR1 "$OUT/checkpoint.pth"
once_per_gpu python main.py --output_dir "$OUT" --resume auto "$@"
