"""Curves of precision and score over recall, from the evaluations that a run keeps, ours or the original DETR's."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.cocoeval import Params

from .errors import UserError

#: How arrays and numbers of numpy are pickled, under the names of numpy before and since version 2.
_NUMPY = [
    (value.__reduce__()[0], f"{module}.multiarray.{name}")
    for name, value in (("_reconstruct", np.zeros(1)), ("scalar", np.float64(1)))
    for module in ("numpy.core", "numpy._core")
]
#: All that pycocotools' result of an evaluation consists of; none of it runs code of the file.
_ALLOWED = [Params, np.ndarray, np.dtype, *_NUMPY, *map(type, map(np.dtype, ("f8", "f4", "i8", "i4", "u1", "?")))]


def read_evaluation(path: str | os.PathLike) -> dict[str, Any]:
    """Read `eval.pth` or a file of `eval/`, of this project or of the original; nothing in it is executed.

    `precision` and `scores` (T, R, K, A, M) and `recall` (T, K, A, M) are arrays: IoU thresholds, recalls, classes,
    areas, most detections. `params` is a mapping, with the recalls under `recThrs`.
    Raises UserError for a file that is missing or no evaluation.
    """
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            content = torch.load(path, map_location="cpu", weights_only=True)
        arrays = {name: np.asarray(content[name]) for name in ("precision", "recall", "scores")}
        params = content["params"]
        params = dict(params if isinstance(params, Mapping) else vars(params))
        shape, curves = arrays["precision"].shape, {"recThrs": np.asarray(params["recThrs"], dtype=float)}
        fits = len(shape) == 5 and arrays["scores"].shape == shape and curves["recThrs"].shape == shape[1:2]
        if not fits or arrays["recall"].shape != (*shape[:1], *shape[2:]) or 0 in shape:
            raise ValueError("arrays of sizes that do not belong together")
        return content | arrays | {"params": params | curves}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # what torch.load raises on foreign bytes depends on where they stop making sense
        raise UserError(f"{path}: no evaluation of a DETR ({type(error).__name__})") from error


def plot_precision_recall(files: Sequence[str | os.PathLike], naming_scheme: str = "iter") -> tuple[Any, Any]:
    """Draw precision and score over recall at the first IoU threshold, 0.5, a line for each evaluation.

    Means over the classes that have objects; all areas, most detections. Prints a line for each file.

    Args:
        files: `eval.pth` or files of a run's folder `eval`.
        naming_scheme: "iter" names a line by its file, "exp_id" by the folder of the run above `eval`.

    Returns:
        pyplot's figure and both axes.

    Raises ValueError for another scheme, UserError as `read_evaluation`.
    """
    if naming_scheme not in ("iter", "exp_id"):
        raise ValueError(f"naming_scheme must be 'iter' or 'exp_id', got {naming_scheme!r}")
    import matplotlib.pyplot as plt

    paths = [Path(file) for file in files]
    names = [path.stem if naming_scheme == "iter" else path.resolve().parts[-3] for path in paths]
    evaluations = [read_evaluation(path) for path in paths]
    figure, axes = plt.subplots(ncols=2, figsize=(16, 5), layout="constrained")
    colours = plt.get_cmap("Blues")(np.linspace(0.35, 1, len(paths)))
    for name, colour, found in zip(names, colours, evaluations):
        precision, scores, recall = _mean_curves(found)
        mean, reached = precision.mean(), recall.mean()
        # The harmonic mean, as DETR prints it.
        f1 = 2 * mean * reached / (mean + reached + 1e-8)
        print(f"{naming_scheme} {name}: mAP@50={100 * mean:5.1f}, score={scores.mean():0.3f}, f1={f1:0.3f}")
        for ax, curve in zip(axes, (precision, scores)):
            ax.plot(found["params"]["recThrs"], curve, color=colour, label=name)
    for ax, title in zip(axes, ("Precision / Recall", "Scores / Recall")):
        ax.set_title(title)
        ax.legend()
    return figure, axes


def _mean_curves(found: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision and score (R,), means over the measured classes, and the recall that each class reaches (K,)."""
    precision, scores = (found[name][0, :, :, 0, -1] for name in ("precision", "scores"))  # (R, K)
    measured = (precision > -1).all(0)  # -1 marks a class without objects
    if not measured.any():
        nothing = np.zeros(len(precision))
        return nothing, nothing, np.zeros(1)
    # Place 0 along the areas is "all", the last of the detections is the most.
    return precision[:, measured].mean(1), scores[:, measured].mean(1), found["recall"][0, measured, 0, -1]
