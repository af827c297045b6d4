"""A training step with and without exchange of gradients, and all-reduces alone, in processes that torchrun starts.

Started by `exchange_check.py` with its order as the only argument. Rank 0 prints a list of rounds: seconds of a step
`without` and, among several processes, `with` the exchange, and of `all_reduce` by bytes; of a single process the step
that is `predicted` from its operators, which are timed beside every step: a machine's speed changes within minutes.
Both are seconds of the processor, which other programs lengthen least.
"""

import argparse
import contextlib
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.append(str(Path(__file__).resolve().parent))

from processes_worker import main
from step_worker import build, make_batch, switch_on


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of work that all processes begin together; of a single one those of its processor."""
    clock = time.process_time
    if dist.is_initialized():
        clock = time.perf_counter  # a process that waits for another computes nothing
        dist.barrier()
    begin = clock()
    work()
    return clock() - begin


def predictor(args: argparse.Namespace, size: tuple[int, int], threads: int) -> Callable[[], float]:
    """Return a function that times the operators of a step, and predicts its seconds, as the cost card does."""
    card = importlib.import_module("training.cost_card.prediction")
    rates = importlib.import_module("training.cost_card.rates").cpu_rates(torch.float32, threads)
    counts = importlib.import_module("training.fake_step").count_step(args, torch.device("cpu"), size, with_calls=True)
    return lambda: card.predict_cpu(counts, rates, clock=time.process_time).seconds


def measure(order: dict) -> list[dict]:
    """Time the rounds after one that does not count; empty on other ranks than 0."""
    model, criterion, optimizer, args = build(order["checkout"], order["flags"])
    engine = importlib.import_module("engine")
    context = engine.StepContext(precision=switch_on(model, args))
    launch = importlib.import_module("util.dist.distributed").init_distributed(device="cpu")
    wrapped = importlib.import_module("building").wrap_model(model, launch)
    batch = make_batch(tuple(order["size"]), args.batch_size, order["objects"], masks=False)
    predict = None if launch.distributed else predictor(args, tuple(order["size"]), order["threads"])
    tensors = {size: torch.zeros(size // 4) for size in order["all_reduce"]}

    def train() -> None:
        device = torch.device("cpu")
        engine.train_one_epoch(wrapped, criterion, [batch], optimizer, device, 0, args.clip_max_norm, context=context)

    rows = []
    for _ in range(order["rounds"] + 1):
        # The same model and the same moment: only the exchange is left out.
        with wrapped.no_sync() if launch.distributed else contextlib.nullcontext():
            row: dict = {"without": timed(train)}
        if launch.distributed:
            row["with"] = timed(train)
            row["all_reduce"] = {size: timed(lambda data=data: dist.all_reduce(data)) for size, data in tensors.items()}
        if predict is not None:
            row["predicted"] = predict()
        rows.append(row)
    return rows[1:] if launch.rank == 0 else []


if __name__ == "__main__":
    main(measure)
