"""Outputs of a Hugging Face folder against those of the checkpoint that it stands for."""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..runs.checkpoint import load_checkpoint
from .huggingface import CONFIG, read_json
from .huggingface_config import Kind, kind_of_config

#: Most that class logits, boxes (in shares of an image) and mask logits may differ by.
TOLERANCE = 1e-4
#: Runs a checkpoint on images (B, 3, H, W) with padding (B, H, W) and returns its outputs.
OutputsOf = Callable[[Mapping[str, Any], Path, Tensor, Tensor], dict[str, Tensor]]
_OUTPUTS = {"pred_logits": "logits", "pred_boxes": "pred_boxes", "pred_masks": "pred_masks"}


def check(folder: Path, file: Path, outputs: OutputsOf) -> str:
    """Compare a folder, loaded by transformers, with a checkpoint; return a line with the differences.

    Without transformers the line says that nothing was compared. Raises UserError where the outputs differ.
    """
    kind = kind_of_config(read_json(folder, CONFIG), str(folder))
    try:
        transformers = import_module("transformers")
        if kind.timm:
            import_module("timm")
    except ModuleNotFoundError as error:  # one of the two, or a package that they need
        missing = (error.name or "transformers").partition(".")[0]
        return f"check: outputs were not compared, as {missing} is not there: pip install {missing}"
    except ImportError as error:  # packages that do not go together
        return f"check: outputs were not compared: {str(error).splitlines()[0]}"
    checkpoint = load_checkpoint(file)
    images, padding = _images()
    run = checkpoint.get("args")
    if isinstance(run, Mapping) and run.get("padding_invariant") is True:  # nothing there erases padding
        padding = torch.zeros_like(padding)
    ours = outputs(checkpoint, file, images, padding)
    # Their mask is 1 on the image, ours True on padding.
    theirs = _run(transformers, folder, kind, images, ~padding)
    differences = {
        name: float((ours[name] - theirs[their]).abs().max()) for name, their in _OUTPUTS.items() if name in ours
    }
    shown = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    wrong = [name for name, value in differences.items() if not value <= TOLERANCE]  # NaN is wrong as well
    if wrong:
        raise UserError(f"{folder}: its outputs differ from those of {file}, do not use it: {shown}")
    return f"check: the same as by transformers' {kind.class_name}; largest differences: {shown}"


def _images() -> tuple[Tensor, Tensor]:
    """Two random images, the second of which is smaller: (2, 3, H, W), and True on padding (2, H, W)."""
    images = torch.randn(2, 3, 160, 224, generator=torch.Generator().manual_seed(0))
    padding = torch.zeros(2, 160, 224, dtype=torch.bool)
    # 150 is no multiple of 32: a column of cells lies in part on padding, where another rounding of masks would show.
    padding[1, 128:] = padding[1, :, 150:] = True
    return images * ~padding[:, None], padding


def _run(transformers: Any, folder: Path, kind: Kind, images: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
    try:
        with _quietly():
            model, found = getattr(transformers, kind.class_name).from_pretrained(folder, output_loading_info=True)
    except Exception as error:  # its own kinds, RuntimeError, ...: whatever a config or weights that do not fit make
        raise UserError(f"{folder}: transformers cannot load it ({' '.join(str(error).split())[:200]})") from error
    left = [name for part in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in found[part]]
    left = [str(name) for name in left if not str(name).endswith("num_batches_tracked")]
    if left:
        raise UserError(
            f"{folder}: transformers {transformers.__version__} finds other weights than it expects: {left[0]}"
        )
    with torch.no_grad():
        return model.float().eval()(pixel_values=images, pixel_mask=mask.long())


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep progress bars and reports of transformers off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)
