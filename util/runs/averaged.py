"""Two sets of weights in one checkpoint, with --ema: those of the last step and their average.

`model` are the raw weights, those of the last step, and `ema` their average; `best_weights` says which of the two has
the AP that stands under `ap`. In `best.pth`, `model` is the better one: where that is the average, the raw weights are
under `raw`. So whoever reads `model` alone gets the better detector, and training goes on from either file.
"""

from collections.abc import Mapping
from typing import Any

#: Keys of a checkpoint that hold weights by their names.
WEIGHT_KEYS = ("model", "ema", "raw")


def with_better_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint whose `model` is the better of its two sets of weights."""
    if state.get("best_weights") != "ema" or "raw" in state:
        return dict(state)
    # Exchanged, not copied: a third set of weights would only make the file larger.
    return {**state, "model": state["ema"], "raw": state["model"]}


def with_raw_weights(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint whose `model` are the weights that training goes on from."""
    rest = {name: value for name, value in checkpoint.items() if name != "raw"}
    return rest | {"model": checkpoint.get("raw", checkpoint["model"])}


def describe_weights(checkpoint: Mapping[str, Any], path: str) -> str | None:
    """Return a line on which of its two sets of weights a checkpoint has as `model`; None for a file with one set."""
    if "ema" not in checkpoint:
        return None
    averaged = "raw" in checkpoint
    better = averaged or checkpoint.get("best_weights") == "raw"
    hint = ", the better of its two" if better else "; best.pth of its run has the better of them and their average"
    return f"{path}: its {'averaged weights' if averaged else 'raw weights'} (--ema) are evaluated{hint}"
