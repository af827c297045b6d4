"""One implementation's training loader in a process of its own: whenever a line arrives, a pass over the data, timed.

Started by `loader.py`. Any checkout with the original's interface will do. A pass ends with the padded batch that
leaves the loader. The original's holds normalised floats, ours bytes, which the device normalises; with `"normalise":
true` in the order, that is done here, on the same core, and counts.
"""

import argparse
import contextlib
import importlib
import inspect
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

sys.path.append(str(Path(__file__).resolve().parent))

from step_worker import own_module


def build(checkout: str, flags: list[str]) -> Iterable:
    """Build a checkout's training loader as its `main.py` does."""
    sys.path.insert(0, checkout)
    main, datasets = importlib.import_module("main"), importlib.import_module("datasets")
    args = argparse.ArgumentParser(parents=[main.get_args_parser()]).parse_args(flags)
    # Ours hands the loader bytes, as main.py does; the original has floats alone.
    options = {"as_uint8": True} if "as_uint8" in inspect.signature(datasets.build_dataset).parameters else {}
    dataset = datasets.build_dataset("train", args, **options)
    # Where the checkout under test has it: it may be one of before the split of the two.
    ours = own_module("run_data") or own_module("building")
    if ours is not None:
        return ours.build_loader(dataset, args, ours.Launch(), train=True)
    sampler = BatchSampler(RandomSampler(dataset), args.batch_size, drop_last=True)
    collate = importlib.import_module("util.misc").collate_fn
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=args.num_workers)


def finisher(*, normalise: bool) -> Callable:
    """Return the last work on a batch: none, or the normalisation that our engine does before the model."""
    if not normalise:
        return lambda samples, targets: None
    to_device = importlib.import_module("engine").to_device
    return lambda samples, targets: to_device(samples, targets, torch.device("cpu"))


def one_pass(loader: Iterable, finish: Callable) -> dict[str, float]:
    """Load every batch once: images, seconds of the clock, and seconds of this process's CPU time."""
    images, start, busy = 0, time.perf_counter(), time.process_time()
    for samples, targets in loader:
        finish(samples, targets)
        images += len(targets)
    return {"images": images, "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - busy}


def passes(order: dict) -> Iterator[dict[str, float]]:
    """One measured pass for every further line of input."""
    with contextlib.redirect_stdout(io.StringIO()):
        loader, finish = build(order["checkout"], order["flags"]), finisher(normalise=order["normalise"])
        for _ in sys.stdin:
            yield one_pass(loader, finish)


def main() -> None:
    """Read the order from the first line: on one core, with one thread, time passes."""
    warnings.simplefilter("ignore")
    order = json.loads(sys.stdin.readline())
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # Linux; workers inherit it
        os.sched_setaffinity(0, {order["core"]})
    answers = sys.stdout
    for answer in passes(order):
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
