"""Names of a run's numbers in dashboards: `group/name`, in groups that people with the sparse-attention fork know."""

import re
from collections.abc import Mapping
from typing import Any

from ..metrics import MEASURED, RATES

#: What one looks at first; the same of earlier decoder layers, and unweighted losses, are in the larger groups.
MAIN = ("loss", "loss_ce", "loss_bbox", "loss_giou", "class_error", "cardinality_error_unscaled")
#: Facts of the steps and not of the model.
EXTRA = (*MEASURED, *RATES, "grad_norm", "padding", "shapes", "object_sizes")
#: Times and memory under the fork's names.
RENAMED = {"step_time": "iter_time", "max_memory": "memory"}
#: COCO's first six numbers, in their order.
AP_NAMES = ("mAP", "AP_50", "AP_75", "AP_S", "AP_M", "AP_L")
#: COCO's numbers in a row of log.txt, and their group.
AP_GROUPS = {
    "test_coco_eval_bbox": "val-AP",
    "test_coco_eval_masks": "val-AP-masks",
    "test_ema_coco_eval_bbox": "val-AP-ema",
    "test_ema_coco_eval_masks": "val-AP-masks-ema",
}
#: Attentions as their modules are named, and their group.
ALPHA_GROUPS = {
    "decoder.multihead_attn": "alpha",
    "decoder.self_attn": "alpha-decoder-self",
    "encoder.self_attn": "alpha-encoder",
}


def step_values(means: Mapping[str, float], *, step: int) -> dict[str, float]:
    """Name the means of some training steps, `step` steps into the run."""
    return _grouped("train", means) | {"train-extra-metrics/global_step": step}


def epoch_values(row: Mapping[str, Any]) -> dict[str, float]:
    """Name the numbers of an epoch's row of log.txt."""
    values = _grouped("train-epoch", _numbers(row, "train_"))
    values |= {f"val-epoch-metrics/{name}": value for name, value in _numbers(row, "test_").items()}
    for key, group in AP_GROUPS.items():
        values |= {f"{group}/{name}": value for name, value in zip(AP_NAMES, row.get(key, ()))}
    for key, quality in row.items():
        if key.startswith("test_") and isinstance(quality, Mapping):  # panoptic: PQ_all, PQ_th, PQ_st
            values |= {f"val-PQ/{key.removeprefix('test_')}-{name}": value for name, value in quality.items()}
    return values | alpha_values(row.get("train_alpha", {})) | {"epoch": row["epoch"]}


def alpha_values(alphas: Mapping[str, list[float]]) -> dict[str, float]:
    """Name the alphas of attentions' heads, by the name of the attention's module."""
    values: dict[str, float] = {}
    for module, of_heads in alphas.items():
        # By the end of the name: what wraps the model stands in front of it.
        found = re.search(r"(encoder|decoder)\.layers\.(\d+)\.(\w+)$", module)
        assert found, f"{module} is no attention of a transformer"
        group = ALPHA_GROUPS[f"{found[1]}.{found[3]}"]
        values |= {f"{group}/layer_{found[2]}-head_{head}": alpha for head, alpha in enumerate(of_heads)}
    return values


def _grouped(pass_: str, values: Mapping[str, float]) -> dict[str, float]:
    """Put a training pass's numbers into its three groups."""
    named = {}
    for name, value in values.items():
        kind = "main-metrics" if name in MAIN else "extra-metrics" if name in EXTRA else "metrics"
        # The slash makes a group in W&B and in TensorBoard.
        named[f"{pass_}-{kind}/{RENAMED.get(name, name)}"] = value
    return named


def _numbers(row: Mapping[str, Any], prefix: str) -> dict[str, float]:
    return {k.removeprefix(prefix): v for k, v in row.items() if k.startswith(prefix) and isinstance(v, (int, float))}
