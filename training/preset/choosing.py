"""From the flags of a run with `--preset auto` to the choices that are made for it, or that its checkpoint recorded."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from datasets.interface import DetectionDataset
from models.backbone_weights import fetch_imagenet_weights
from models.checkpoint_config import architecture_of
from settings import Weights
from util.dist.distributed import all_gather, is_main_process, print_once
from util.errors import DownloadError

from ..choices import Choice
from .auto import choose
from .backbone import BackboneWishes, choose_backbone
from .facts import read_data_facts, read_machine_facts


def choose_preset(
    args: argparse.Namespace, typed: Mapping[str, Any], weights: Weights, device: torch.device
) -> tuple[dict[str, Choice], DetectionDataset | None]:
    """Look at data and machine and choose the flags that were not typed; those that this version has.

    Rank 0 chooses for all processes. Returns the choices, and the training set as `read_data_facts` does. Raises
    UserError for data or a checkpoint that cannot be read.
    """
    (data, opened), machine = read_data_facts(args), read_machine_facts(device)
    print_once(f"--preset auto: {data.describe()}\n  {machine.describe()}")
    wishes = BackboneWishes(
        name=typed.get("backbone"),
        weights=typed.get("backbone_weights"),
        masks=args.masks,
        brought=weights.bring_backbone,
    )
    backbone, trained = choose_backbone(machine, wishes, _fetch_once)
    architecture = None
    if weights.start is not None:
        architecture = _as_in_checkpoint(weights)
    chosen = choose(data, machine, typed, backbone, trained_backbone=trained, architecture=architecture)
    # Flags of a later version, and of --init_from's architecture, may not exist in this parser.
    known = {name: choice for name, choice in chosen.items() if name in vars(args)}
    # Memory and cores may differ between machines: all processes take what rank 0 chose.
    return all_gather(known)[0], opened


def _as_in_checkpoint(weights: Weights) -> dict[str, Choice]:
    """Choices of the whole model: that of --init_from, so that as much as possible of it can be used."""
    assert weights.start is not None
    architecture, _ = architecture_of(weights.start, weights.paths["start"])
    parts = asdict(architecture)
    for decided_by_data in ("num_classes", "masks"):
        # Class count and masks follow from the annotations and the user's flag, not from the checkpoint.
        parts.pop(decided_by_data)
    return {name: Choice(value, "as in the checkpoint of --init_from") for name, value in parts.items()}


def _fetch_once(name: str) -> None:
    """Bring a backbone's ImageNet weights here, in the first process. Raises DownloadError in all of them."""
    why = None
    if is_main_process():
        try:
            fetch_imagenet_weights(name)
        except DownloadError as error:
            why = error.line()
    # All processes hear of the failure: one that raised alone would leave the others waiting.
    why = all_gather(why)[0]
    if why is not None:
        raise DownloadError(why)


def recorded_choices(checkpoint: Mapping[str, Any] | None) -> dict[str, Choice]:
    """Return the choices of the run that wrote a checkpoint; none of a run without a preset."""
    record = (checkpoint or {}).get("preset") or {}
    return {name: Choice(entry["value"], entry["reason"]) for name, entry in record.items()}


def as_record(choices: Mapping[str, Choice]) -> dict[str, dict[str, Any]]:
    """Return choices in plain types, for run.json and checkpoints."""
    return {name: asdict(choice) for name, choice in choices.items()}
