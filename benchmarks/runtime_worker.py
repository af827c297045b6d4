"""Our model in another runtime, ONNX Runtime or OpenVINO, timed as `inference_worker.py` times a checkout.

Started by `inference.py`, which has written the model into a file by `write_ours`. Both packages are optional.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parent))

from inference_worker import find_postprocess, keep_results, mean_score
from step_worker import build, make_batch

#: A batch (B, 3, H, W) and its mask (B, H, W) to logits (B, Q, C+1) and boxes (B, Q, 4).
Run = Callable[[Tensor, Tensor], Sequence[Tensor]]


def write_ours(flags: list[str], size: tuple[int, int], path: Path) -> None:
    """Write our model as ONNX, by the code of `export.py`, for images of one size, which suits a runtime best."""
    checkout = str(Path(__file__).resolve().parents[1])
    # The weights of `inference_worker.py`: the same seed.
    model = build(checkout, flags)[0]
    from inference.export.formats import write_model
    from inference.export.metadata import ExportMetadata
    from inference.export.wrapper import Canvas
    from models.config import Architecture

    facts: dict[str, Any] = {"class_names": {}, "category_ids": None, "things": None, "source": "no checkpoint"}
    # The architecture is for readers of the file, and nobody reads it here.
    facts |= {"architecture": Architecture(), "image_size": min(size), "max_size": max(size)}
    write_model("onnx", model, ExportMetadata(**facts, canvas=Canvas(fixed=size)), path)


def open_onnxruntime(order: dict[str, Any]) -> tuple[Run, str]:
    """Open the file with ONNX Runtime; return how to run it, and the type that it computes in."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = order["threads"]
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(order["file"], options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(*tensors: Tensor) -> Sequence[Tensor]:
        found = session.run(None, dict(zip(names, (tensor.numpy() for tensor in tensors), strict=True)))
        return [torch.from_numpy(array) for array in found]

    return run, "float32"


def open_openvino(order: dict[str, Any]) -> tuple[Run, str]:
    """Open the file with OpenVINO, which by itself computes in bfloat16 where the processor can: the type is asked for.

    Returns:
        how to run it, and the type that it says it computes in.
    """
    import openvino

    model = openvino.Core().read_model(order["file"])
    # The number of images is free in the file; a fixed one suits it best.
    shapes = {0: [order["batch_size"], 3, *order["size"]], 1: [order["batch_size"], *order["size"]]}
    model.reshape(shapes)
    wanted = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": order["threads"]}
    compiled = openvino.compile_model(model, "CPU", wanted | {"INFERENCE_PRECISION_HINT": order["precision"]})

    def run(*tensors: Tensor) -> Sequence[Tensor]:
        found = compiled([tensor.numpy() for tensor in tensors])
        return [torch.from_numpy(found[port]) for port in compiled.outputs]

    return run, compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()


OPENERS = {"onnxruntime": open_onnxruntime, "openvino": open_openvino}


def main() -> None:
    """Read the order from the first line, then time a batch for every further line."""
    order = json.loads(sys.stdin.readline())
    sys.path.insert(0, order["checkout"])
    torch.set_num_threads(order["threads"])
    run, precision = OPENERS[order["runtime"]](order)
    samples = make_batch(tuple(order["size"]), order["batch_size"], 1, masks=False)[0]
    postprocess, sizes = find_postprocess(), torch.tensor([order["size"]] * order["batch_size"])
    for _ in sys.stdin:
        start = time.perf_counter()
        logits, boxes, *_ = run(samples.tensors, samples.mask)
        results = postprocess({"pred_logits": logits, "pred_boxes": boxes}, sizes)
        seconds = time.perf_counter() - start
        keep_results(order, results)
        print(json.dumps({"seconds": seconds, "score": mean_score(results), "precision": precision}), flush=True)


if __name__ == "__main__":
    main()
