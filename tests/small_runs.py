"""Runs in a fraction of the time: ResNet-18 with an eighth of its channels and half of its blocks, and small pictures.

For tests of what a run does and leaves. A module asks for them by its mark
`pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")`.
"""

import os
from collections.abc import Sequence
from typing import Any

import pytest
import torchvision
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from models import checkpoint_config
from util.draw import sheets
from util.plot_utils import read_log
from util.runs import run_folder
from util.runs.atomic import atomic_file

#: Of the channels of a ResNet one in so many is left.
SHARE = 8


class NarrowResNet(ResNet):
    """A ResNet's layers under their names, with an eighth of the channels."""

    def _make_layer(self, block: Any, planes: int, *args: Any, **more: Any) -> Any:
        return super()._make_layer(block, planes // SHARE, *args, **more)


class NarrowResNet18(NarrowResNet):
    """ResNet-18's layers under their names, one block a stage: 90,000 parameters instead of 11 million."""

    def __init__(self, *, blocks: Sequence[int] = (1, 1, 1, 1), weights: None = None, **more: Any) -> None:
        super().__init__(BasicBlock, list(blocks), **more)


class NarrowResNet50(NarrowResNet):
    """All of ResNet-50's layers, with 400,000 parameters instead of 23 million."""

    def __init__(self, *, weights: None = None, **more: Any) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3], **more)


def narrow(patch: pytest.MonkeyPatch) -> None:
    """Put the narrow network in ResNet-18's place, also where checkpoints are told apart by their weights."""
    _replace(patch, "resnet18", NarrowResNet18, (1, 1, 1, 1), bottleneck=False)


def narrow_resnet50(patch: pytest.MonkeyPatch) -> None:
    """Put the narrow network in ResNet-50's place likewise."""
    _replace(patch, "resnet50", NarrowResNet50, (3, 4, 6, 3), bottleneck=True)


def _replace(
    patch: pytest.MonkeyPatch, name: str, network: type[ResNet], blocks: tuple[int, ...], *, bottleneck: bool
) -> None:
    patch.setattr(torchvision.models, name, network)
    patch.setitem(checkpoint_config._RESNETS, (blocks, (64 // SHARE, 64 // SHARE), bottleneck), name)


def leave_undrawn(patch: pytest.MonkeyPatch) -> None:
    """Read the log as for its curves and write a file in their place; draw small images of detections."""
    patch.setattr(run_folder, "plot_curves", note)
    patch.setattr(sheets, "GRID_TILE", 32)


def note(log_file: str | os.PathLike, path: str | os.PathLike) -> None:
    """Write how many epochs there are to draw."""
    with atomic_file(path) as file:
        file.write(f"{len(read_log(log_file))} epochs".encode())


def in_force() -> list[str]:
    """Name the replacements that are in force in this process, for `repeat` in another."""
    found = {"narrow": torchvision.models.resnet18 is NarrowResNet18, "leave_undrawn": run_folder.plot_curves is note}
    return [name for name, on in found.items() if on]


def repeat(names: list[str]) -> None:
    """Make the replacements of another process here, for good."""
    for name in names:
        globals()[name](pytest.MonkeyPatch())
