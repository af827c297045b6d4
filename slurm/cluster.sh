#!/usr/bin/env bash
# Train, evaluate, predict or profile on any Slurm cluster: one GPU, a node, or several.
#
#   export PARTITION=gpu PYTHON_ENV=/path/to/env OUT=/path/to/run
#                           bash slurm/cluster.sh --coco_path /path/to/coco        1 GPU
#   GPUS=8 NODES=2 CPUS=6   bash slurm/cluster.sh --coco_path /path/to/coco        two nodes, a task for each GPU
#   GPUS=8 NODES=2 LAUNCHER=torchrun MODULES="cuda/12.4" bash slurm/cluster.sh --coco_path /path/to/coco
#                           bash slurm/cluster.sh predict --input /path/to/images
#   sbatch --partition=gpu --gres=gpu:1 slurm/cluster.sh --coco_path /path/to/coco     the same by hand, from any folder
#
# All variables are listed in launch.sh; the page for beginners is README.md. GPU_TYPE: as in --gres=gpu:a100:1.
#SBATCH --job-name=detr
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
CPUS_OF_A_GPU=8
need_or_know PARTITION "the queue of the GPUs: sinfo lists them" SLURM_JOB_PARTITION
run_job "--gres=gpu:${GPU_TYPE:+$GPU_TYPE:}" "$0" "$@"
