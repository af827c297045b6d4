"""One implementation of DETR in a process of its own: whenever a line arrives, a training step, timed.

The answer has the step's seconds and those of its parts, its loss, and the most memory that the process has had (MB:
resident, on a GPU allocated). `cpu` are the seconds that its threads computed: other programs on the machine lengthen
them far less. With `count` in the order the first step counts device reads and operations, the second a GPU's kernels,
and every answer has the rate of operations that the machine reaches at best, unless `rate` is false.

Started by `train_step.py` and `masks.py`. Any checkout with the original's interface will do: `main.get_args_parser()`,
`models.build_model(args)` and `engine.train_one_epoch(...)`, so that each is timed with its own engine.
"""

import argparse
import contextlib
import importlib
import io
import json
import resource
import sys
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parent))  # not in front: a module of the tests is named roofline, too
from step_parts import StepParts, best_rate, counted, counted_kernels


def own_module(name: str) -> ModuleType | None:
    """Import a module that our tree has and the original lacks; None in the original."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):  # neither the module nor its package: something that it imports
            raise
        return None


def build(checkout: str, flags: list[str]) -> tuple:
    """Model, criterion and optimizer of a checkout, with the flags given and no pretrained weights."""
    sys.path.insert(0, checkout)
    main, models = importlib.import_module("main"), importlib.import_module("models")
    args = argparse.ArgumentParser(parents=[main.get_args_parser()]).parse_args(flags)
    args.backbone_weights = "none"
    backbone = importlib.import_module("models.backbone")
    if hasattr(backbone, "is_main_process"):  # the original downloads weights on its main process, always
        backbone.is_main_process = lambda: False
    torch.manual_seed(0)
    model, criterion, _ = models.build_model(args)
    model.to(args.device)
    return model, criterion, build_optimizer(model, args), args


def build_optimizer(model: torch.nn.Module, args: argparse.Namespace) -> torch.optim.Optimizer:
    """Build the checkout's own optimizer, which the original builds inside of its `main`."""
    building = own_module("building")
    if building is not None:
        rates = {"lr": args.lr, "lr_backbone": args.lr_backbone}
        return building.build_optimizer(model, **rates, weight_decay=args.weight_decay)
    parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in parameters if "backbone" not in name]},
        {"params": [p for name, p in parameters if "backbone" in name], "lr": args.lr_backbone},
    ]
    return torch.optim.AdamW(groups, lr=args.lr, weight_decay=args.weight_decay)


def switch_on(model: torch.nn.Module, args: argparse.Namespace) -> Any:
    """Apply --tf32 and --compile as our `main.py` does; return the precision of --amp.

    The original has none of these flags: its answer is None.
    """
    precision = own_module("util.dist.precision")
    if precision is None:
        return None
    device = torch.device(args.device)
    host_memory = own_module("util.dist.host_memory")  # younger than some checkouts of --before
    if host_memory is not None:
        host_memory.keep_freed_memory(device)
    if args.tf32:
        precision.use_tf32(device)
    if args.compile:
        importlib.import_module("models.fast.compiled").LayerCompiler(model.detr if args.masks else model)
    return precision.pick_precision(args.amp, device)


def peak_mb(device: torch.device | None = None) -> float:
    """Most memory so far, in MB: allocated on a GPU, resident of this process elsewhere."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def kernel_use() -> dict[str, float]:
    """Return what the kernel did for this process so far: seconds of the processor, and pages that it handed out."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    return {"kernel_s": use.ru_stime, "page_faults": use.ru_minflt}


def make_batch(size: tuple[int, int], batch_size: int, objects: int, *, masks: bool) -> tuple:
    """Make a batch, equal for every implementation: images of noise in its own NestedTensor, and targets.

    Args:
        size: height and width of the images.
        batch_size: images.
        objects: objects of each image.
        masks: give each object a random mask (height, width).
    """
    try:
        padding = importlib.import_module("util.nested_tensor")
    except ImportError:
        padding = importlib.import_module("util.misc")
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(3, *size, generator=generator) for _ in range(batch_size)]
    targets = [
        {
            # COCO's category ids, 1 to 90.
            "labels": torch.randint(1, 91, (objects,), generator=generator),
            # cxcywh: centres and sides between 0.2 and 0.5 of the image.
            "boxes": torch.rand(objects, 4, generator=generator) * 0.3 + 0.2,
            "image_id": torch.tensor([i]),
            "orig_size": torch.tensor(size),
            "size": torch.tensor(size),
        }
        for i in range(batch_size)
    ]
    for target in targets if masks else ():
        target["masks"] = torch.rand(objects, *size, generator=generator) < 0.1
    return padding.nested_tensor_from_tensor_list(images), tuple(targets)


def main() -> None:
    """Read the order from the first line, then time a step for every further line."""
    warnings.simplefilter("ignore")
    order = json.loads(sys.stdin.readline())
    torch.set_num_threads(order["threads"])
    answers = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()):
        model, criterion, optimizer, args = build(order["checkout"], order["flags"])
        engine = importlib.import_module("engine")
        batch = make_batch(tuple(order["size"]), args.batch_size, order["objects"], masks=args.masks)
        device = torch.device(args.device)
        precision = switch_on(model, args)
        own = {} if precision is None else {"context": engine.StepContext(precision=precision)}
        dtype = getattr(precision, "dtype", None) or torch.float32
        parts = StepParts(model, criterion, optimizer, device.type == "cuda")
        # With the model in memory and no step done: what the step adds is the peak less this.
        before = peak_mb()
        counts: dict[str, float] = {}
        watches = [counted(model, optimizer, counts), counted_kernels(device, counts)] if order.get("count") else []
        for _ in sys.stdin:
            # The first steps count, one watch each, and are among those that the parent does not time.
            with watches.pop(0) if watches else contextlib.nullcontext():
                start, start_cpu, used = time.perf_counter(), time.process_time(), kernel_use()
                stats = engine.train_one_epoch(
                    model, criterion, [batch], optimizer, device, 0, args.clip_max_norm, **own
                )
                if device.type == "cuda":
                    torch.cuda.synchronize()
                seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
            answer = {"seconds": seconds, "parts": parts.take(seconds), "loss": stats["loss"]}
            # New pages are work of the kernel, whose price changes from hour to hour on rented machines.
            answer |= {name: value - used[name] for name, value in kernel_use().items()}
            answer |= {"peak_mb": peak_mb(device), "before_mb": before, "cpu": cpu} | counts
            if order.get("rate", order.get("count")):
                answer["rate"] = best_rate(device, dtype)
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
