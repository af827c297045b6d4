#!/usr/bin/env bash
# The same training under several limits of the GPUs' power: AP for the energy, and step time, over watts.
#
#   CAPS="200 250 300 400" OUT=$SCRATCH/power bash slurm/power_sweep.sh FLAGS     a job for each limit, by perlmutter.sh
#   OUT=$SCRATCH/power bash slurm/power_sweep.sh draw                             once they are done: table and power.png
#   CAPS="150 200 250" OUT=runs/power CAP_WITH=nvidia-smi bash slurm/power_sweep.sh FLAGS   here, one after the other; root
#
# CLUSTER=cluster: by cluster.sh, where Slurm knows the option CAP_OPTION (--gpu-power). All other variables: launch.sh.
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
: "${OUT:?folder of the runs, one for each limit}"

draw() {
    [[ ${PYTHON_ENV:-} != */* ]] || PATH=$PYTHON_ENV/bin:$PATH
    cd "$project"
    python -m util.plot_power "$OUT"/*W --output "$OUT/power.png"
}

[[ ${1:-} != draw ]] || { draw && exit; }
: "${CAPS:?the limits in watts, e.g. CAPS=\"200 300 400\"}"
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd)
if [[ ${CAP_WITH:-slurm} == nvidia-smi ]]; then
    before=$(nvidia-smi --id=0 --query-gpu=power.limit --format=csv,noheader,nounits)
    trap 'nvidia-smi --power-limit="$before"' EXIT
fi
for watts in $CAPS; do
    if [[ ${CAP_WITH:-slurm} == nvidia-smi ]]; then
        nvidia-smi --power-limit="$watts"
        (cd "$project" && python main.py --output_dir "$OUT/${watts}W" --resume auto --energy "$@")
    else
        OUT=$OUT/${watts}W SBATCH_MORE="${SBATCH_MORE:-} ${CAP_OPTION:---gpu-power}=$watts" \
            bash "$project/slurm/${CLUSTER:-perlmutter}.sh" train --energy "$@"
    fi
done
[[ ${CAP_WITH:-slurm} != nvidia-smi ]] || draw
