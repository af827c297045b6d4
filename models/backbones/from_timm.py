"""Networks of the library timm (`--backbone timm:NAME`), which is imported here when one is asked for.

Weights have timm's names for networks that give features: in most, `stages.0` of the whole network is `stages_0`.
"""

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from util.errors import CheckpointError, DownloadError, UserError
from util.nested_tensor import IMAGENET_MEAN, IMAGENET_STD

from ..backbone_weights import fill, note_other_pixels, weights_of_file
from .from_torchvision import TIMM
from .layout import Layout

STRIDES = {"c5": 32, "c4": 16}


def timm_network(name: str, *, norm: str, feature_map: str, dilation: bool) -> tuple[nn.Module, Layout]:
    """Build a convolutional network of timm with random weights up to its map of stride 32 (`c5`) or 16 (`c4`).

    Args:
        name: with the prefix `timm:`.
        norm: `frozen` or `batch`.
        feature_map, dilation: as in `torchvision_network`.

    Raises:
        UserError: timm is missing, has no such network or one of another kind, or cannot do what is asked for.
    """
    if dilation or norm == "group":
        flag = "--dilation" if dilation else "--backbone_norm group"
        raise UserError(f"{flag} does not work with --backbone {name}: it is for torchvision's networks")
    timm, short = _timm(name), name.removeprefix(TIMM)
    try:
        # On "meta" nothing is computed: only the list of maps is of interest.
        with torch.device("meta"):
            info = timm.create_model(short, features_only=True).feature_info
        strides = info.reduction()
        # Every stride once, and 32 among them: networks of patches have one stride only.
        if STRIDES["c5"] not in strides or len(set(strides)) < len(strides):
            raise UserError(
                f"--backbone {name}: its maps have strides {strides}; DETR needs a network down to stride 32"
            )
        stride = STRIDES[feature_map]
        module = timm.create_model(short, features_only=True, out_indices=(strides.index(stride),))
    except (RuntimeError, AttributeError, TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f"--backbone {name}: timm cannot make a backbone of it: {str(error).splitlines()[0]}"
        ) from error
    # NHWC or NLC are transformers, whose position tables are made for one size of images.
    if str(getattr(module, "output_fmt", "NCHW")).rpartition(".")[2] != "NCHW":
        raise UserError(f"--backbone {name}: it computes on images of one size; DETR needs a convolutional network")
    # Blocks behind the map would cost time, and under DistributedDataParallel parameters without gradient are an error.
    _cut(module)
    if norm == "frozen":
        module = timm.layers.freeze_batch_norm_2d(module)
    module.register_forward_hook(_as_dictionary)
    parts = tuple((part,) for part in _parts(module))
    stride_4 = _part_index(parts, info, strides)
    return module, Layout(parts, stride_4, "", info.channels()[strides.index(stride)], frozenset(module.state_dict()))


def load_timm_weights(body: nn.Module, name: str, source: str) -> None:
    """Fill a network of `timm_network` with weights: timm's own (`imagenet`), or those of a file that timm wrote.

    Raises CheckpointError where a file does not fit, DownloadError where there is no way to the weights.
    """
    timm, short = _timm(name), name.removeprefix(TIMM)
    with torch.device("meta"):
        whole = timm.create_model(short)
    if source == "imagenet":
        try:
            state: Mapping[str, Tensor] = timm.create_model(short, pretrained=True).state_dict()
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise DownloadError(
                f"cannot get timm's weights of {short} ({reason}): give --backbone_weights FILE with them, or "
                "--backbone_weights none to train from scratch"
            ) from error
    else:
        state = _read(source)
    own = body.state_dict()
    # `stages.0.x` of the whole network is `stages_0.x` here, where the library has unrolled it.
    # Only the first dot: `stages.0.blocks.1` of the file is `stages_0.blocks.1` here.
    renamed = {key if key in own else key.replace(".", "_", 1): value for key, value in state.items()}
    # Classifier and later stages under both spellings, so that they are no unexpected weights of the file.
    ignored = {key.replace(".", "_", 1) for key in whole.state_dict()} | set(whole.state_dict())
    fill(body, name, renamed, source, ignored - own.keys())
    config = whole.pretrained_cfg or {}
    note_other_pixels(name, config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD))


def _timm(name: str) -> Any:
    try:
        import timm
        import timm.layers
    except ImportError as error:
        raise UserError(f"--backbone {name} needs the library timm: pip install timm ({error})") from error
    short = name.removeprefix(TIMM)
    if not timm.is_model(short):
        near = difflib.get_close_matches(short, timm.list_models(), n=3, cutoff=0.5)
        meant = f"; did you mean {' or '.join(TIMM + other for other in near)}?" if near else ""
        raise UserError(f"--backbone {name}: timm {timm.__version__} has no such network{meant}")
    return timm


def _read(source: str) -> Mapping[str, Tensor]:
    if not source.endswith(".safetensors"):
        return weights_of_file(source)
    from safetensors.torch import load_file  # timm comes with it

    try:
        return load_file(source)
    except Exception as error:  # many kinds for a broken file; all mean the same to the user
        raise CheckpointError(
            f"--backbone_weights {source} cannot be read as weights ({type(error).__name__})"
        ) from error


def _cut(module: Any) -> None:
    """Leave away the blocks behind the map, which some networks of timm keep."""
    last = module.feature_info.module_name()[-1].split(".")
    # `blocks.6` means: keep blocks 0 to 6 of the row, whatever else stands behind.
    if len(last) == 2 and isinstance(row := getattr(module, last[0], None), nn.Sequential):
        setattr(module, last[0], row[: int(last[1]) + 1])


def _parts(module: nn.Module) -> list[str]:
    """Names of the parts in order: blocks where the network is a stem and a row of blocks, else its layers."""
    names = []
    for name, child in module.named_children():
        row = [f"{name}.{number}" for number, _ in child.named_children()] if name == "blocks" else [name]
        names += [part for part in row if any(True for _ in module.get_submodule(part).parameters())]
    return names


def _part_index(parts: tuple[tuple[str, ...], ...], info: Any, strides: list[int]) -> int:
    """Return how many parts there are up to the map of stride 4."""
    layer = info.module_name()[strides.index(4)]
    for number, (part,) in enumerate(parts):
        if part in (layer, layer.replace(".", "_", 1)):
            return number + 1
    return 0


def _as_dictionary(_module: nn.Module, _inputs: Any, maps: list[Tensor]) -> dict[str, Tensor]:
    """Return the one map by the name that a backbone's has."""
    return {"0": maps[-1]}
