# shellcheck shell=bash
# Sourced by slurm/launch.sh for its job `profile`: what that does on the nodes.
#
# SECTIONS, NAME, TOOL (ncu or nsys) are the caller's to set; DCGM=pause where NVIDIA's monitor holds the counters.

# collect_sections MAIN-FLAGS...: a capture of each section, then the charts; returns the exit code of the first that failed.
collect_sections() {
    export LC_ALL=C
    # Replaying kernels keeps rank 0 busy while the others wait for it.
    export TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC=7200
    local scripts=roofline-on-nvidia-gpus/custom-scripts tool=() section
    if [[ ${TOOL:-ncu} == nsys ]]; then
        tool=(--nsys)
    elif [[ ${DCGM:-} == pause ]]; then
        pause_dcgm
    fi
    for section in ${SECTIONS:-forward loss backward optimizer_step}; do
        once_per_gpu python "$scripts/collect.py" "$section" "${tool[@]}" --name "${NAME:-detr}" --output_dir "$OUT" \
            -- python main.py "$@" || return
    done
    if [[ ${TOOL:-ncu} == ncu ]]; then
        python "$scripts/postprocess.py" "$OUT" --output_dir "$OUT/charts"
    fi
}
