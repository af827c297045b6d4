"""A folder that holds another run already: its checkpoints are not written over without a word."""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..dist.distributed import print_once
from ..errors import CheckpointError, UserError
from .checkpoint import load_checkpoint
from .plain import to_plain

#: Flags that say where and how fast a run computes, what it shows, and where it starts: two runs that differ in these
#: alone are the same run.
FREE = frozenset(
    "output_dir overwrite resume start_epoch eval report world_size dist_url dist_timeout device num_workers "
    "print_freq on_nan memory_snapshot warmup_worst_case "
    "check max_pixels max_dets eval_every eval_batch_size split checkpoint_every max_hours early_stop "
    "compile grad_checkpoint channels_last deterministic mask_chunk print_shapes section timing torch_profile "
    "count_costs profile_warmup profile_steps profile_continue save_augmented log_gpu "
    "logger log_images wandb_group wandb_id describe attention_stats "
    "eval_checkpoints max_inf_frames train_only save_images threshold ckpt_store_interval_epochs metrics_file".split()
)

#: Letters of a flag's value in a message; a path fits.
MOST_SHOWN = 200


def refuse_other_run(folder: Path | None, cfg: argparse.Namespace, *, resumed: str | None) -> None:
    """Raise UserError where a training run would write over the checkpoints of a run with other flags or data.

    The same flags start the run anew, as in DETR, with a line that says so. An evaluation, a trial, a run for a
    profiler alone and a run that goes on from a file of the folder write over nothing. With --overwrite anything goes.

    Args:
        folder: of the run; None where this process writes no files.
        cfg: the settled flags.
        resumed: the checkpoint that the run goes on from.
    """
    profiles = (cfg.section or cfg.torch_profile or cfg.count_costs) and not cfg.profile_continue
    if folder is None or cfg.eval or cfg.overfit or profiles or cfg.overwrite:
        return
    # resolve(): a link to the folder is the same folder.
    if resumed is not None and Path(resumed).resolve().parent == folder.resolve():
        return
    there = [path for name in ("checkpoint.pth", "best.pth", "previous.pth") if (path := folder / name).is_file()]
    if not there:
        return
    theirs = _flags_of(folder, there[0])
    ways = "give another folder, --resume auto to go on with that run, or --overwrite to start anew"
    if theirs is None:
        raise UserError(f"--output_dir {folder} holds {there[0].name} of an unknown run: {ways}")
    different = _differences(theirs, to_plain(cfg))
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise UserError(f"--output_dir {folder} holds another run ({', '.join(different[:3])}{more}): {ways}")
    print_once(f"note: {folder} holds a run of the same flags; it is started anew (--resume auto goes on with it)")


def _flags_of(folder: Path, checkpoint: Path) -> Mapping[str, Any] | None:
    """Return the settled flags of the run in a folder, None where nothing says them."""
    try:
        flags = json.loads((folder / "run.json").read_text())["flags"]
        if not flags["eval"]:  # that of an evaluation says nothing about the checkpoints
            return flags
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # as of DETR, which writes none
        pass
    try:
        flags = load_checkpoint(checkpoint).get("args")
    except CheckpointError:
        return None
    return flags if isinstance(flags, Mapping) else None


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Name the flags that both runs have, with different values."""
    # Of both: a flag that a later version added makes no other run.
    both = sorted(theirs.keys() & ours.keys() - FREE)
    return [
        f"--{name} {_short(theirs[name])} there, {_short(ours[name])} here"
        for name in both
        if _comparable(theirs[name]) != _comparable(ours[name])
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _comparable(value: Any) -> Any:
    """Return a value in which equal ones of two runs are equal: one name for a path, lists as JSON has them."""
    if isinstance(value, str) and os.path.exists(value):  # which, other than a Path, takes a text of any length
        return str(Path(value).resolve())
    return list(value) if isinstance(value, tuple) else value
