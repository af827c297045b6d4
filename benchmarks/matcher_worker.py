"""One implementation's matcher in a process of its own: whenever a line arrives, the matching of a batch, timed.

Started by `matcher.py`. Any checkout with the original's interface will do. The predictions and objects are random and
equal for all; the answer has a checksum of the pairs.
"""

import hashlib
import importlib
import json
import resource
import sys
import time
from typing import Any

import torch

LAYERS, CLASSES = 6, 91


def make_case(batch: int, queries: int, objects: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make the predictions of all decoder layers and the targets of a batch."""
    generator = torch.Generator().manual_seed(0)

    def boxes(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, 4, generator=generator) * 0.5 + 0.2

    layers = [
        {
            "pred_logits": torch.randn(batch, queries, CLASSES + 1, generator=generator),
            "pred_boxes": boxes(batch, queries),
        }
        for _ in range(LAYERS)
    ]
    labels = [torch.randint(CLASSES, (objects,), generator=generator) for _ in range(batch)]
    return layers, [{"labels": of_image, "boxes": boxes(objects)} for of_image in labels]


def main() -> None:
    """Read the order from the first line, then match the batch for every further line."""
    order = json.loads(sys.stdin.readline())
    torch.set_num_threads(order["threads"])
    sys.path.insert(0, order["checkout"])
    matcher = importlib.import_module("models.matcher").HungarianMatcher(1, 5, 2)
    layers, targets = make_case(order["batch_size"], order["queries"], order["objects"])
    for _ in sys.stdin:
        start, start_cpu = time.perf_counter(), time.process_time()
        if hasattr(matcher, "match_layers"):
            matches = matcher.match_layers(layers, targets)
        else:  # the original's
            matches = [matcher(layer, targets) for layer in layers]
        answer: dict[str, Any] = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - start_cpu}
        pairs = b"".join(torch.stack(pair).numpy().tobytes() for images in matches for pair in images)
        answer |= {"pairs": hashlib.sha256(pairs).hexdigest()[:16]}
        answer |= {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
