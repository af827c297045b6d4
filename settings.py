"""From flags as they were typed to the settings of a run: where it computes, its weights, and one settled copy."""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from flags.given import given_flags
from model_flag_checks import check_model_flags
from models import follow_checkpoint
from models.checkpoint_config import refuse_other_architecture
from util.dist.device import pick_device, seed_everything, use_deterministic_algorithms
from util.dist.distributed import Launch, init_distributed, print_once
from util.dist.host_memory import FreedMemory
from util.dist.precision import Precision, pick_precision, use_tf32
from util.errors import UserError
from util.runs.averaged import describe_weights, with_raw_weights
from util.runs.checkpoint import find_resume, load_checkpoint
from util.runs.class_names import (
    DataClasses,
    class_count,
    label_order,
    match_classes,
    names_in,
    refuse_other_classes,
    trained_classes,
)


@dataclass(frozen=True)
class Place:
    """Rank of this process among the others, its device and memory, the number type of products, and when it began."""

    launch: Launch
    device: torch.device
    precision: Precision
    memory: FreedMemory
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Weights:
    """Checkpoints that a run reads, at most one of the first two; None where it has none of the kind.

    Attributes:
        resume: goes on with its run, or is evaluated.
        start: --init_from: as much of its weights as fits starts a new run.
        frozen: --frozen_weights: the detector under a mask head.
        paths: file or address of each, by the names above.
    """

    resume: dict[str, Any] | None
    start: dict[str, Any] | None
    frozen: dict[str, Any] | None
    paths: Mapping[str, str]

    @property
    def bring_backbone(self) -> bool:
        """True where a checkpoint holds the backbone's weights."""
        return any(checkpoint is not None for checkpoint in (self.resume, self.start, self.frozen))


def join(args: argparse.Namespace) -> Place:
    """Pick device and precision, join the other processes, and seed every random stream. Raises UserError."""
    # Before the processes join: the backend of their exchange depends on the device.
    device = pick_device(args.device)
    precision = pick_precision(args.amp, device)
    if args.tf32:
        use_tf32(device)
    if args.deterministic:
        use_deterministic_algorithms()
    launch = init_distributed(
        device=str(device), dist_url=args.dist_url, world_size=args.world_size, timeout=args.dist_timeout
    )
    # After the rank is known: every process draws its own dropout and crops.
    seed_everything(args.seed, rank=launch.rank)
    return Place(launch, device, precision, FreedMemory(device))


def find_weights(args: argparse.Namespace) -> Weights:
    """Read the checkpoints that the flags name. Raises UserError for one that cannot be read."""
    names = {
        "resume": find_resume(args.resume, args.output_dir),
        "start": args.init_from or None,
        "frozen": args.frozen_weights or None,
    }
    paths = {kind: path for kind, path in names.items() if path}
    found = {kind: load_checkpoint(path) if path else None for kind, path in names.items()}
    if found["resume"] is not None and not args.eval:
        # best.pth may hold the average of --ema. Training goes on from the weights that the optimizer's state belongs
        # to.
        found["resume"] = with_raw_weights(found["resume"])
    elif found["resume"] is not None and (line := describe_weights(found["resume"], paths["resume"])):
        print_once(line)
    return Weights(**found, paths=paths)


def settle_flags(args: argparse.Namespace, weights: Weights, place: Place) -> argparse.Namespace:
    """Return a copy of the flags with the values that the run will have; `args` stays as it was typed.

    An evaluation takes the architecture from its checkpoint; a training run must have the same one. Raises UserError
    for flags that contradict a checkpoint or each other.
    """
    settled: dict[str, Any] = {"device": str(place.device)}
    if weights.resume is not None and not args.match_classes:
        settled["dense_labels"] = settle_labels(args.dense_labels, weights.resume, weights.paths["resume"])
        settled["classes"] = settle_chosen(args.classes, weights.resume, weights.paths["resume"])
    if weights.resume is not None and args.eval:
        values, lines = follow_checkpoint(args, weights.resume, weights.paths["resume"], given=given_flags(args))
        settled |= values
        if (
            args.match_classes or names_in(weights.resume) is not None
        ):  # the data is read first, to be compared by name; see settle_classes
            settled["num_classes"] = args.num_classes
        for line in lines:
            print_once(line)
    elif weights.resume is not None:
        refuse_other_architecture(weights.resume, weights.paths["resume"], flags=vars(args))
    if weights.bring_backbone or place.launch.rank > 0:  # other ranks get the weights of rank 0
        # Nothing to download: a checkpoint, or DDP's first broadcast, brings them.
        settled["backbone_weights"] = "none"
    cfg = replace_flags(args, **settled)
    # Of the settled flags: an evaluation has its architecture from the checkpoint by now.
    check_model_flags(cfg)
    if weights.frozen is not None:
        refuse_other_architecture(weights.frozen, weights.paths["frozen"], flags=vars(cfg))
    return cfg


def settle_labels(dense: bool, checkpoint: Mapping[str, Any], path: str) -> bool:
    """Return True where a checkpoint was trained with --dense_labels. Raises UserError where only the flag says so."""
    trained = label_order(checkpoint) is not None
    if dense and not trained:
        raise UserError(
            f"{path}: made without --dense_labels: its classes are at the category ids; leave the flag out, or give "
            f"--match_classes to move them by their names, or --init_from {path} to start a new run"
        )
    if trained and not dense:
        print_once(f"--dense_labels is that of {path}")
    return trained


def settle_chosen(typed: str | None, checkpoint: Mapping[str, Any], path: str) -> str | None:
    """Return --classes as typed, or else as the checkpoint was trained with."""
    trained = trained_classes(checkpoint)
    if typed is not None or trained is None:
        # What was typed wins over what the checkpoint remembers.
        return typed
    print_once(f"--classes {trained} is that of {path}")
    return trained


def settle_classes(weights: Weights, cfg: argparse.Namespace, data: DataClasses) -> tuple[Weights, int]:
    """Return the checkpoints with classes under the data's ids, and the number of classes of the model.

    Ids that mean other classes are refused, or with --match_classes moved by their names. Raises UserError.
    """
    count, settled = data.count, {}
    for kind in ("frozen", "resume"):  # the last decides: it is loaded over the other
        checkpoint = getattr(weights, kind)
        if checkpoint is None:
            continue
        if cfg.match_classes:
            checkpoint, line = match_classes(checkpoint, weights.paths[kind], data)
            settled[kind] = checkpoint
            print_once(line)
        else:
            refuse_other_classes(checkpoint, weights.paths[kind], data)
        if cfg.match_classes or (kind == "resume" and not data.learned):
            # The head's size is the checkpoint's where its weights are only evaluated.
            count = class_count(checkpoint) or count
    return replace(weights, **settled), count


def replace_flags(args: argparse.Namespace, **values: Any) -> argparse.Namespace:
    """Return a copy of the flags with other values."""
    return argparse.Namespace(**vars(args) | values)


def flag_origins(
    args: argparse.Namespace, cfg: argparse.Namespace, chosen: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Return where the value of each flag of a run comes from.

    That is `command line`, a place `file:line` in a file of flags, `preset`, `default`, `caller` for a flag that a
    script set after parsing, or `settled` where checkpoint, data or machine decided.

    Args:
        args: the flags as they were typed.
        cfg: those of the run.
        chosen: the flags that --preset or a trial chose.
    """
    known: Mapping[str, str] = getattr(args, "origins", {})
    # Each `|` wins over what stands before it: a parser knows places, a caller in Python has none.
    typed = dict.fromkeys(given_flags(args), "caller") | {name: place for name, place in known.items()}
    typed = dict.fromkeys(vars(cfg), "default") | dict.fromkeys(chosen or {}, "preset") | typed
    settled = {
        name: "settled"
        for name, value in vars(cfg).items()
        if name not in (chosen or {}) and value != getattr(args, name, None)
    }
    return {name: (typed | settled)[name] for name in vars(cfg)}


def typed_flags(args: argparse.Namespace) -> dict[str, Any]:
    """Return the flags that were given, as they were given."""
    return {name: getattr(args, name) for name in sorted(given_flags(args))}
