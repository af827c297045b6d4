"""Weights for a backbone: torchvision's of ImageNet, or a file's."""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from util.dist.distributed import print_once
from util.errors import CheckpointError, DownloadError
from util.nested_tensor import IMAGENET_MEAN, IMAGENET_STD


def load_backbone_weights(body: nn.Module, name: str, source: str, *, ignored: Collection[str] = ()) -> None:
    """Fill a backbone with weights; batch norm counters and the classifier in a file are ignored.

    Args:
        body: the network without its classifier.
        name: torchvision's name for it.
        source: `imagenet` (downloaded on first use), a path, or `none`: leave it random.
        ignored: names of more tensors of a file that are ignored, as those of a stage that the body does not have.

    Raises:
        CheckpointError: something else is missing in a file or left over.
        DownloadError: there is no way to the weights.
    """
    if source == "none":
        return
    if source != "imagenet":
        fill(body, name, weights_of_file(source), source, ignored)
        return
    try:
        load_imagenet_weights(body, name, ignored=ignored)
    except DownloadError as error:
        # Nodes of a cluster often have no way out: the message names the file to bring along.
        file = imagenet_weights(name).url.rpartition("/")[2]
        raise DownloadError(
            f"{error}: give --backbone_weights FILE with them ({file}), or --backbone_weights none "
            "to train from scratch"
        ) from error


def load_imagenet_weights(body: nn.Module, name: str, *, ignored: Collection[str] = ()) -> None:
    """Fill a backbone with torchvision's IMAGENET1K_V1 weights, which for ResNets are the ones DETR was trained from.

    They are downloaded on first use. Raises DownloadError when they cannot be.
    """
    fill(body, name, fetch_imagenet_weights(name), "imagenet", ignored)
    transforms = imagenet_weights(name).transforms
    shown = transforms.keywords if isinstance(transforms, partial) else {}
    note_other_pixels(name, shown.get("mean", IMAGENET_MEAN), shown.get("std", IMAGENET_STD))


def fetch_imagenet_weights(name: str) -> dict[str, Tensor]:
    """Return torchvision's ImageNet weights of a network, downloaded on first use. Raises DownloadError."""
    try:
        # The hash in the file's name is compared: a download that broke off must not train silently.
        return dict(imagenet_weights(name).get_state_dict(progress=False, check_hash=True))
    except (ValueError, AttributeError) as error:
        raise DownloadError(f"torchvision has no ImageNet weights of {name}") from error
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash a RuntimeError
        raise DownloadError(f"cannot download the ImageNet weights of {name} ({error})") from error


def imagenet_weights(name: str) -> Any:
    """Return torchvision's entry of a network's first ImageNet weights; the largest RegNet has others only."""
    known = torchvision.models.get_model_weights(name)
    return getattr(known, "IMAGENET1K_V1", None) or known.DEFAULT


def note_other_pixels(name: str, mean: Sequence[float], std: Sequence[float]) -> None:
    """Print a line where weights were trained on pixels normalised in another way than ours."""
    # Rounded, because libraries write 0.485 and the like with different last digits.
    if [round(x, 3) for x in (*mean, *std)] != [round(x, 3) for x in (*IMAGENET_MEAN, *IMAGENET_STD)]:
        print_once(
            f"note: the weights of --backbone {name} know pixels normalised with mean {tuple(mean)} and deviation "
            f"{tuple(std)}; here they are normalised with ImageNet's, so let its first layers train (--freeze_layers 0)"
        )


def fill(body: nn.Module, name: str, state: dict[str, Tensor], source: str, ignored: Collection[str]) -> None:
    """Load the weights of a network.

    Args:
        body: the network without its classifier.
        name: what --backbone calls it.
        state: its weights and perhaps more; a classifier's and batch norm counters are ignored.
        source: what --backbone_weights says.
        ignored: names of more weights that are ignored.

    Raises:
        CheckpointError: they are those of another network.
    """
    own = body.state_dict()
    # The classifier is not part of DETR; half-precision files are widened.
    state = {k: v.float() for k, v in state.items() if k in own or not k.startswith(("fc.", "classifier."))}
    state = {k: v for k, v in state.items() if k in own or not (k in ignored or k.endswith("num_batches_tracked"))}
    # Present only in trained batch norms; old files lack them. The network's own fill the gap below.
    counters = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")}
    # Names on one side only, then those of another shape.
    odd = sorted((own.keys() - counters.keys()) ^ (state.keys() - counters.keys()))
    odd += sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    if odd:
        raise CheckpointError(
            f"--backbone_weights {source} does not fit --backbone {name}: {len(odd)} tensors differ, first {odd[0]}"
        )
    # Order matters: the file's counters, where it has them, win over the network's zeros.
    body.load_state_dict(counters | state)


def weights_of_file(path: str) -> dict[str, Tensor]:
    """Read a state dict of tensors. Raises CheckpointError where there is none."""
    if not Path(path).is_file():
        raise CheckpointError(f"--backbone_weights {path}: no such file (or write imagenet or none)")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a broken file; all mean the same to the user
        raise CheckpointError(f"--backbone_weights {path} is not a file of weights ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"--backbone_weights {path} is not a state dict of tensors")
    return state
