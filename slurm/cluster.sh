#!/usr/bin/env bash
# Train on any Slurm cluster: one GPU, a node, or several. Arguments after the script's name go to main.py.
#
#   PARTITION=gpu ENVIRONMENT=/path/to/env OUT=/path/to/run GPUS=8 NODES=2 bash slurm/cluster.sh --coco_path /path/to/coco
#
# ENVIRONMENT: folder of a conda or venv environment with the packages of requirements.txt. Other options of sbatch by its
# variables: SBATCH_ACCOUNT, SBATCH_QOS, SBATCH_CONSTRAINT, ... NODES, GPUS, CPUS, TIME, LAUNCHER: see launch.sh.
# A job that is preempted or runs out of time starts again and resumes from its last checkpoint, if it wrote one.
#SBATCH --job-name=detr
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail
: "${PARTITION:?the queue of the GPUs: sinfo lists them}" "${ENVIRONMENT:?folder of the conda or venv environment}"
: "${OUT:?folder for checkpoints and logs, seen from every node}"
# shellcheck source=slurm/launch.sh
source "${PROJECT:-$(dirname "$0")/..}/slurm/launch.sh"
submit --partition="$PARTITION" --gres="gpu:$GPUS" -- "$0" "$@"

export PATH="$ENVIRONMENT/bin:$PATH" OMP_NUM_THREADS=1
cd "$PROJECT"
requeue_at USR1 "$OUT/checkpoint.pth"
once_per_gpu python main.py --output_dir "$OUT" --resume auto "$@"
