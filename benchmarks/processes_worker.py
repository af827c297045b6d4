"""Our training step in each of several processes that torchrun starts; rank 0 prints each timed step.

Started by `scaling.py` with its order as the only argument. A step is printed with its seconds and images.
"""

import contextlib
import importlib
import io
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parent))

from step_worker import build, make_batch, peak_mb, switch_on


def time_steps(order: dict) -> list[dict]:
    """Time the steps: seconds of every step after one that is not timed, with the images of all processes."""
    model, criterion, optimizer, args = build(order["checkout"], order["flags"])
    engine = importlib.import_module("engine")
    distributed = importlib.import_module("util.dist.distributed")
    launch = distributed.init_distributed(device=args.device)
    device = torch.device(args.device)
    context = engine.StepContext(precision=switch_on(model, args))
    model = importlib.import_module("building").wrap_model(model.to(device), launch)
    # The same batch in every process: none has more work than another.
    batch = make_batch(tuple(order["size"]), args.batch_size, order["objects"], masks=False)
    rows = []
    for _ in range(order["rounds"] + 1):
        # All begin at once: a process that comes late would be waited for in the first all-reduce, inside the time.
        distributed.barrier()
        start = time.perf_counter()
        engine.train_one_epoch(model, criterion, [batch], optimizer, device, 0, args.clip_max_norm, context=context)
        if device.type == "cuda":
            # The host only queues kernels: wait until they are done.
            torch.cuda.synchronize()
        # Every process has a batch of its own, and all end together with the last all-reduce.
        images = args.batch_size * launch.world_size
        rows.append({"seconds": time.perf_counter() - start, "images": images, "peak_mb": peak_mb()})
    if launch.rank == 0:
        # The first step makes the optimizer's state and the gradient buckets.
        return rows[1:]
    return []


def main(measure: Callable[[dict], list[dict]] = time_steps) -> None:
    """Measure as the order on the command line says; rank 0, whose measurements are not empty, prints them."""
    warnings.simplefilter("ignore")
    order = json.loads(sys.argv[1])
    torch.set_num_threads(order["threads"])
    answers = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()):
        rows = measure(order)
        importlib.import_module("util.dist.distributed").shutdown()
    if rows:
        print(json.dumps(rows), file=answers, flush=True)


if __name__ == "__main__":
    main()
