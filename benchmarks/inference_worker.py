"""One implementation's inference in a process of its own: a batch whenever a line arrives, and its seconds.

Started by `inference.py`. Any checkout with the original's interface will do.
"""

import contextlib
import importlib
import io
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parent))

from step_worker import build, make_batch, switch_on


def find_postprocess() -> nn.Module:
    """Return the checkout's postprocessor of boxes, which the original keeps beside its model."""
    try:
        return importlib.import_module("models.postprocess").PostProcess()
    except ImportError:
        return importlib.import_module("models.detr").PostProcess()


def keep_results(order: dict[str, Any], results: list[dict[str, torch.Tensor]]) -> None:
    """Write the scores and boxes of a batch to the order's file of `results`, once: others are compared with them."""
    path = Path(order["results"])
    if not path.exists():
        torch.save(
            {name: torch.stack([found[name].float() for found in results]) for name in ("scores", "boxes")}, path
        )


def mean_score(results: list[dict[str, torch.Tensor]]) -> float:
    """Mean of all scores of a batch."""
    return float(torch.stack([found["scores"].float().mean() for found in results]).mean())


def main() -> None:
    """Read the order from the first line, then time a batch for every further line."""
    warnings.simplefilter("ignore")
    order = json.loads(sys.stdin.readline())
    torch.set_num_threads(order["threads"])
    answers = sys.stdout
    # What a checkout prints must not come between the answers, one line of JSON each.
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad(), contextlib.ExitStack() as stack:
        model, _, _, args = build(order["checkout"], order["flags"])
        postprocess, precision = find_postprocess(), switch_on(model, args)
        model.eval()
        if hasattr(precision, "keeping_casts"):  # as an evaluation and predict.py do; older checkouts have none
            stack.enter_context(precision.keeping_casts())
        device = torch.device(args.device)
        samples = make_batch(tuple(order["size"]), args.batch_size, 1, masks=False)[0].to(device)
        # (B, 2) height and width: boxes come back in pixels of the input itself.
        sizes = torch.tensor([order["size"]] * args.batch_size, device=device)
        for _ in sys.stdin:
            start = time.perf_counter()
            with precision.autocast() if precision else contextlib.nullcontext():
                outputs = model(samples)
            # The copies wait for the GPU: without them the clock would stop while it still computes.
            results = [{key: value.cpu() for key, value in found.items()} for found in postprocess(outputs, sizes)]
            seconds = time.perf_counter() - start
            # After the clock: it only shows that all implementations did comparable work.
            keep_results(order, results)
            print(json.dumps({"seconds": seconds, "score": mean_score(results)}), file=answers, flush=True)


if __name__ == "__main__":
    main()
