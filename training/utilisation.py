"""Costs of a step in a line at the start of a training, and after each epoch the share of the device's peak: MFU."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import nn

from building import Detector, Setup, count_trainable, without_wrapper
from models.config import Architecture
from util.dist.accelerator import accelerator
from util.dist.distributed import get_world_size, is_main_process
from util.metrics import StepLog
from util.profiling.batch_shapes import BatchShapes

from .cost_card.rates import cpu_peak, find_driver_gpu, gpu_rates
from .cost_card.sizes import typical_objects, typical_size
from .model_flops import Shape, batch_flops

#: Flags that decide what a batch costs; by them and by its shape costs are known for other runs of this process.
_DECIDE = (*(field.name for field in fields(Architecture)), "aux_loss")
_known: dict[tuple[object, ...], int] = {}


@dataclass(frozen=True)
class Peak:
    """The best FLOP/s of a device in the run's number type, and what it is of."""

    name: str
    flops: float


class Utilisation:
    """Counts what the steps of a run cost, in the process that writes; others count nothing.

    Args:
        run: its flags say shapes and number type.
        detector: whose products count.
    """

    def __init__(self, run: Setup, detector: Detector) -> None:
        self.run = run
        self.model, self.criterion = without_wrapper(detector.model), detector.criterion
        self._shapes: BatchShapes | None = None
        self._log: StepLog | None = None
        #: Why FLOPs are not known; None where they are.
        self.unknown: str | None = None

    @cached_property
    def objects(self) -> int:
        """Objects of an image in the mean, where the model's work grows with them: masks, or noised queries."""
        cfg = self.run.cfg
        return typical_objects(self.run.data) if cfg.masks or cfg.denoising else 1

    def describe(self) -> str | None:
        """Return the line at the start; None in processes that write nothing."""
        if not is_main_process():
            return None
        cfg, size = self.run.cfg, typical_size(self.run.cfg, self.run.data)
        flops = self.flops((cfg.batch_size, *size))
        times = f"{cfg.accumulate} x " if cfg.accumulate > 1 else ""
        each = f" in each of {get_world_size()} processes" if get_world_size() > 1 else ""
        work = f"about {cfg.accumulate * flops / 1e9:,.1f} GFLOP" if flops else f"FLOPs not known ({self.unknown})"
        peak = gpu_peak(cfg, self.run.place.device)
        shards = get_world_size() if cfg.zero else 1
        weights = describe_weights(self.model, copies=2 if cfg.ema else 1, shards=shards)
        rate = ""
        if peak and flops:
            most = get_world_size() * cfg.batch_size * peak.flops / flops
            rate = f"; at the peak of {peak.name} it would be {most:,.0f} images a second"
        return (
            f"a step: {times}{cfg.batch_size} images of {size[0]} x {size[1]}{each}, {work}{rate}; "
            f"{weights}; --cost_card counts activations and predicts the time"
        )

    def watch(self, log: StepLog, shapes: BatchShapes) -> None:
        """Follow an epoch's times and batches."""
        self._log, self._shapes = log, shapes

    def of_epoch(self, stats: Mapping[str, float]) -> dict[str, float]:
        """Return `mfu` (0..1) of the epoch whose means are `stats`; nothing where FLOPs or peak are not known."""
        if not is_main_process() or self._log is None or self._shapes is None:
            return {}
        batches, steps = self._shapes.shapes, len(self._log.times)
        # Not those of an epoch that an earlier version began: it did not count its batches.
        if not steps or sum(batches.values()) != steps * self.run.cfg.accumulate:
            return {}
        peak = self.peak()
        flops = self.flops_of({(b, h, w): count for (b, _, h, w), count in batches.items()}) if peak else None
        if peak is None or flops is None:
            return {}
        # This process's own batches against its own device.
        return {"mfu": flops / (steps * stats["step_time"] * peak.flops)}

    def peak(self) -> Peak | None:
        """The peak of this process's device; None where nobody knows it, as of processes that share a CPU's cores."""
        cfg, device = self.run.cfg, self.run.place.device
        if accelerator(device).host:
            if get_world_size() > 1:
                return None
            dtype = torch.bfloat16 if cfg.bf16 or cfg.amp == "bf16" else torch.float32
            return Peak("this CPU", cpu_peak(dtype, torch.get_num_threads()))
        return gpu_peak(cfg, device)

    def flops_of(self, batches: Mapping[Shape, int]) -> float | None:
        """FLOPs of batches by shape and their number; None where they are not known.

        Up to three shapes are counted. Of more, three are: the FLOPs of an image are a polynomial of the second degree
        of its pixels, by the encoder's attention, but for sides that are no multiple of the stride.
        """
        by_pixels = sorted(batches, key=lambda shape: shape[1] * shape[2])
        chosen = [by_pixels[0], by_pixels[len(by_pixels) // 2], by_pixels[-1]]
        pixels = {h * w for _, h, w in chosen}
        counted: dict[Shape, int] = {}
        for shape in batches if len(batches) <= 3 else chosen:
            flops = self.flops(shape)
            if flops is None:
                return None
            counted[shape] = flops
        if len(batches) <= 3:
            return float(sum(counted[shape] * count for shape, count in batches.items()))
        # In millions of pixels, so that the squares stay near 1.
        of_image = [counted[shape] / shape[0] for shape in chosen]
        fit = np.polynomial.Polynomial.fit([h * w / 1e6 for _, h, w in chosen], of_image, len(pixels) - 1)
        return float(sum(count * b * fit(h * w / 1e6) for (b, h, w), count in batches.items()))

    def flops(self, shape: Shape) -> int | None:
        """FLOPs of a batch; None where the model cannot be run on shapes alone."""
        # A backbone that is frozen for some epochs costs less in them.
        trained = tuple(p.requires_grad for p in self.model.parameters())
        key = (shape, self.objects, trained, *(str(getattr(self.run.cfg, name)) for name in _DECIDE))
        if key not in _known and self.unknown is None:
            try:
                _known[key] = batch_flops(self.model, self.criterion, shape, objects=self.objects)
            except Exception as error:  # a figure beside the training must not end it, whatever a model does
                self.unknown = _describe_error(error)
        return _known.get(key)


def _describe_error(error: Exception) -> str:
    """Return kind and message of an error, of which PyTorch's can have pages, in a short line."""
    message = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {message[:160]}" if message else type(error).__name__


def gpu_peak(cfg: argparse.Namespace, device: torch.device) -> Peak | None:
    """Return the peak of a GPU that gpus.toml knows, by its datasheet; None for other devices."""
    if not accelerator(device).cuda:
        return None
    row = find_driver_gpu(torch.cuda.get_device_name(device))
    if row is None:
        return None
    # Without half precision convolutions are in TF32, where there is such a unit: PyTorch's default.
    half = "bf16" if cfg.bf16 or cfg.amp == "bf16" else cfg.amp
    unit, rates = {"bf16": "tensor_bf16", "fp16": "tensor_fp16"}.get(half, "tensor_tf32"), gpu_rates(row).flops
    return Peak(f"{row['name']} ({unit if unit in rates else 'fp32'})", rates.get(unit) or rates["fp32"])


def describe_weights(model: nn.Module, *, copies: int, shards: int) -> str:
    """Return how many parameters there are and what they hold in memory, in training.

    `copies` of the weights are kept, and each process holds one of so many `shards` of the moments.
    """
    weights = copies * sum(p.numel() * p.element_size() for p in model.parameters())
    # Gradient and AdamW's two moments are of the weight's type.
    trained = sum((1 + 2 / shards) * p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    count = sum(p.numel() for p in model.parameters())
    return (
        f"{count:,} parameters, {count_trainable(model):,} of them trained: {(weights + trained) / 1e6:,.0f} MB with "
        "gradients and moments"
    )
