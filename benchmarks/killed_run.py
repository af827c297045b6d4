"""A run that is killed at random moments, and damage to its checkpoints: for benchmarks/reliability.py."""

import contextlib
import io
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import main
from benchmarks.long_run import watched
from util.errors import CheckpointError
from util.metrics import MEASURED
from util.runs.checkpoint import find_resume, load_checkpoint
from util.runs.run_folder import RunFolder

#: A step of some 20 ms; every epoch evaluates, for best.pth.
FLAGS = (
    "--device cpu --dataset_file shapes --image_size 64 --train_size 40 --val_size 2 --batch_size 2 --num_workers 0 "
    "--backbone mobilenet_v3_small --backbone_weights none --backbone_norm batch --enc_layers 1 --dec_layers 1 "
    "--hidden_dim 16 --nheads 2 --dim_feedforward 16 --num_queries 8 --print_freq 10 --checkpoint_every 1 --no_check "
    "--lr_drop 1000"
)
STEPS_PER_EPOCH = 20


def start(flags: str, output: Path, saved: Path | None, looks: Path | None = None) -> int:
    """Run main.py in a fork of this process, which has imported everything; return the fork's number.

    Its output goes to a file. After every save the step's number is added to the file `saved`, and after every epoch
    what the run holds to the file `looks`.
    """
    # A fork has the imports of this process already.
    child = os.fork()
    if child:
        return child
    for descriptor in (1, 2):
        # By descriptor: C libraries write past sys.stdout.
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    if saved is not None:
        save = RunFolder.save

        def save_and_note(self: RunFolder, state: dict, **more: bool) -> bool:
            # First the save, then the note: a step that was noted is on the disk, so a kill between the two proves
            # nothing wrong.
            result = save(self, state, **more)
            with saved.open("a") as file:
                file.write(f"{state['step']}\n")
            return result

        RunFolder.save = save_and_note  # type: ignore[method-assign]
    with watched(looks) if looks else contextlib.nullcontext():
        # Not sys.exit: the fork must not go on with its parent's `finally` blocks and exit handlers.
        os._exit(main.cli(flags.split()))


def last_saved(saved: Path) -> int:
    """Return the step that the run noted last as saved."""
    # Up to the last line's end: a kill may have cut the number after it.
    whole = saved.read_text().rpartition("\n")[0].splitlines() if saved.exists() else []
    return int(whole[-1]) if whole else 0


def kill_once(flags: str, saved: Path, dice: random.Random) -> bool:
    """Start the run, let it save a few steps, and kill it somewhere in the next; return False where it ended before."""
    before, child = last_saved(saved), start(flags, saved.with_name("output.txt"), saved)
    wanted = before + dice.randrange(3)
    # From no save at all, as while it starts, to the middle of one.
    while last_saved(saved) <= wanted and not has_ended(child):
        time.sleep(0.002)
    time.sleep(dice.uniform(0, 0.2))
    if has_ended(child):
        return False
    os.kill(child, signal.SIGKILL)
    # It may have ended by itself just before: then its exit code is its own.
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def let_end(flags: str, output: Path, saved: Path | None, looks: Path | None = None) -> None:
    """Start the run and wait for its end. Raises RuntimeError with its last line where it failed."""
    code = os.waitstatus_to_exitcode(os.waitpid(start(flags, output, saved, looks), 0)[1])
    if code:
        raise RuntimeError(f"exit code {code}: {output.read_text().strip().rpartition(chr(10))[2]}")


def has_ended(child: int) -> bool:
    """Return True once a fork is over."""
    try:
        return os.waitpid(child, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def faults_after_kill(folder: Path, saved: Path, *, had_best: bool) -> list[str]:
    """Return what is not as promised after a kill."""
    found = find_quietly(folder)
    step = load_checkpoint(found)["step"] if found else 0
    # One step ahead is right: killed after the save, before the note.
    faults = [f"step {last_saved(saved)} was saved and {step} is found"] if step < last_saved(saved) else []
    if had_best:
        try:
            load_checkpoint(folder / "best.pth")
        except CheckpointError as error:
            faults.append(str(error))
    log = folder / "log.txt"
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            json.loads(line)
        except ValueError:
            faults.append("a row of log.txt is not whole")
    return faults


def find_quietly(folder: Path) -> str | None:
    """Return what --resume auto takes, without its lines."""
    with contextlib.redirect_stdout(io.StringIO()):
        return find_resume("auto", folder)


def kill_often(folder: Path, flags: str, *, kills: int, seconds: float, dice: random.Random) -> dict[str, Any]:
    """Kill a run again and again, and let it end; return what was found."""
    saved, began, faults, done = folder / "saved.txt", time.monotonic(), [], 0
    had_best = False
    for _ in tqdm(range(kills), desc="kills", disable=None):
        if time.monotonic() - began > seconds:
            break
        if not kill_once(flags, saved, dice):
            break  # the run is over: more --epochs have room for more kills
        done += 1
        faults += faults_after_kill(folder, saved, had_best=had_best)
        # From the first time it is seen on, every later kill must leave one.
        had_best = had_best or (folder / "best.pth").exists()
    at = last_saved(saved)
    let_end(flags, saved.with_name("output.txt"), saved)
    return {"kills": done, "steps_saved_meanwhile": at, "faults": faults, "seconds": round(time.monotonic() - began)}


def same_run(one: Path, other: Path) -> bool:
    """Return True if two runs ended with the same weights, optimizer and log, to the last bit."""
    mine, theirs = (load_checkpoint(folder / "checkpoint.pth") for folder in (one, other))
    # To the bit: a run that goes on from a checkpoint draws the same batches and crops as one that never stopped.
    same = all(torch.equal(mine["model"][name], value) for name, value in theirs["model"].items())
    for key, state in theirs["optimizer"]["state"].items():
        same &= all(torch.equal(mine["optimizer"]["state"][key][name], value) for name, value in state.items())
    return same and rows(one) == rows(other)


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a log without times and memory."""
    measured = {f"train_{name}" for name in MEASURED}
    lines = (folder / "log.txt").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in measured} for line in lines]


def damage(folder: Path, kind: str, *, times: int, dice: random.Random) -> dict[str, Any]:
    """Damage the last checkpoint again and again; return how often it was recognised, and the one before found."""
    path = folder / "checkpoint.pth"
    whole, before = path.read_bytes(), load_checkpoint(folder / "previous.pth")["step"]
    recognised = 0
    for _ in tqdm(range(times), desc=kind, disable=None):
        place = dice.randrange(len(whole))
        # One bit: << binds before ^. A checksum has to see the smallest damage.
        flipped = bytes([whole[place] ^ 1 << dice.randrange(8)])
        # A cut at 0 leaves an empty file, which counts as damaged, too.
        path.write_bytes(whole[:place] + (b"" if kind == "truncations" else flipped + whole[place + 1 :]))
        found = find_quietly(folder)
        recognised += found == str(folder / "previous.pth") and load_checkpoint(found)["step"] == before
    path.write_bytes(whole)
    return {"files": times, "recognised_and_previous_found": recognised, "bytes": len(whole)}


def kill_and_damage(place: Path, *, kills: int, files: int, epochs: int, seconds: float, seed: int) -> dict[str, Any]:
    """Kill a run, compare it with one that was left alone, and damage its checkpoint.

    Args:
        place: a folder for both runs.
        kills: at most, and no further one after so many `seconds`.
        files: damaged ones of each kind.
        epochs: of the run.
        seed: of moments and places.
    """
    dice = random.Random(seed)
    killed, straight = place / "killed", place / "straight"
    flags = f"{FLAGS} --epochs {epochs} --resume auto --output_dir"
    killed.mkdir()
    report: dict[str, Any] = {
        "sigkill": kill_often(killed, f"{flags} {killed}", kills=kills, seconds=seconds, dice=dice)
    }
    let_end(f"{flags} {straight}", place / "output.txt", None)
    report["sigkill"]["same_weights_and_log_as_without_kills"] = same_run(killed, straight)
    for kind in ("truncations", "flipped_bytes"):
        report[kind] = damage(killed, kind, times=files, dice=dice)
    return report
