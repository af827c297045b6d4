"""The cost card of a training: counted on fake tensors, predicted by the device's rates, as a table."""

import argparse
import datetime
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from run_data import Data
from util.dist.accelerator import accelerator
from util.dist.distributed import get_world_size
from util.profiling.step_counter import StepCounts

from ..fake_step import count_step
from .prediction import Prediction, predict_cpu, predict_gpu
from .rates import Rates, cpu_rates, find_gpu, gpu_rates
from .sizes import typical_objects, typical_size

#: What --cost_card means without a name: the device of the run.
HERE = "here"
#: Room that libraries take beside tensors: cuDNN's workspaces and CUDA's context on a GPU, Python and torch on a CPU.
MARGIN = {"cuda": 1_200e6, "cpu": 500e6}


@dataclass(frozen=True)
class CostCard:
    """Costs of a training.

    Attributes:
        counts: of a step.
        size: height and width of the images of that step.
        batch: images of a step and process.
        steps: of an epoch.
        parameters, trained: numbers in all, and those that are trained.
        memory: bytes by part.
        rates: of the device.
        prediction: of a step on it.
        checkpoint: bytes of one.
        files: checkpoints that the run will hold.
    """

    counts: StepCounts
    size: tuple[int, int]
    batch: int
    steps: int
    parameters: int
    trained: int
    memory: Mapping[str, float]
    rates: Rates
    prediction: Prediction
    checkpoint: float
    files: int

    def mfu(self, seconds: float) -> float:
        """Share of the device's best rate that a step of so many seconds reaches (0..1)."""
        units = {op.unit for op in self.counts.ops if op.cost.matrix} & self.rates.flops.keys()
        peak = max(self.rates.flops[unit] for unit in units) if units else self.rates.flops["product"]
        # Matrix products alone, as MFU is defined for language models: norms and activations are no "useful" FLOP.
        return self.counts.products / seconds / peak


def make_card(cfg: argparse.Namespace, data: Data, model: nn.Module, *, steps: int, device: torch.device) -> CostCard:
    """Count and predict a training of settled flags.

    Args:
        cfg: the flags; `cost_card` may name a GPU.
        data: its images, whose shape counts.
        model: the run's own, whose weights count.
        steps: of an epoch.
        device: of the run.

    Raises UserError for a GPU that is not known.
    """
    named = cfg.cost_card if cfg.cost_card != HERE else None
    on_gpu = bool(named) or accelerator(device).cuda
    size = typical_size(cfg, data)
    objects = typical_objects(data)
    counts = count_step(cfg, torch.device("cuda" if on_gpu else "cpu"), size, objects=objects, with_calls=not on_gpu)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    weights = float(sum(t.numel() * t.element_size() for t in model.state_dict().values()))
    # Bytes: two float32 moments are 8 bytes for each trained number.
    checkpoint = weights * (2 if cfg.ema else 1) + 8.0 * trained  # with AdamW's two moments
    if on_gpu:
        rates = gpu_rates(find_gpu(named or torch.cuda.get_device_name(device)))
        prediction = predict_gpu(counts.ops, rates, sum(counts.operators.values()))
    else:
        dtype = torch.bfloat16 if cfg.amp == "bf16" else torch.float32
        rates = cpu_rates(dtype, torch.get_num_threads())
        prediction = predict_cpu(counts, rates)
    memory = {
        "weights": weights * (2 if cfg.ema else 1),
        # float32, also with --amp: weights and their gradients keep that type.
        "gradients": 4.0 * trained,
        "optimizer": 8.0 * trained / (get_world_size() if cfg.zero else 1),
        "activations": float(counts.saved),
        "cuDNN, CUDA" if on_gpu else "Python, torch": MARGIN["cuda" if on_gpu else "cpu"],
    }
    # Every `lr_drop` epochs, every 100, and not twice those that are multiples of both.
    kept = cfg.epochs // cfg.lr_drop + cfg.epochs // 100 - cfg.epochs // int(np.lcm(cfg.lr_drop, 100))
    return CostCard(
        counts=counts,
        size=size,
        batch=cfg.batch_size * cfg.accumulate,
        steps=steps,
        parameters=sum(p.numel() for p in model.parameters()),
        trained=trained,
        memory=memory,
        rates=rates,
        prediction=prediction,
        checkpoint=checkpoint,
        files=3 + kept,  # checkpoint.pth, previous.pth, best.pth, and those that are kept
    )


def describe_card(card: CostCard) -> str:
    """Return the card as lines."""
    counts, seconds = card.counts, card.prediction.seconds
    height, width = card.size
    parts = ", ".join(f"{name} {_bytes(size)}" for name, size in card.memory.items())
    lines = {
        "parameters": f"{card.parameters:,}, of which {card.trained:,} are trained",
        "a step": f"{card.batch} images of {height} x {width}: {counts.products / 1e9:,.0f} GFLOP of matrix products "
        f"and convolutions, {counts.bytes / 1e9:,.1f} GB moved, {sum(counts.operators.values()):,} operators",
        "memory": f"{_bytes(sum(card.memory.values()))}: {parts}",
        "device": describe_rates(card.rates),
        "prediction": f"a step {_seconds(seconds)}, {card.batch / seconds:,.2f} images a second, "
        f"{card.mfu(seconds):.0%} of the best rate (MFU); an epoch of {card.steps:,} steps "
        f"{_seconds(card.steps * seconds)}",
        "disk": f"{card.files} checkpoints of {_bytes(card.checkpoint)}: {_bytes(card.files * card.checkpoint)}",
    }
    if card.prediction.kernels:
        device, host = card.prediction.device, card.prediction.host
        lines["kernels"] = (
            f"{card.prediction.kernels:,}: {_seconds(device)} of the GPU, {_seconds(host)} of the host, which launches"
        )
    return "\n".join(["cost card", *(f"  {name:12}{text}" for name, text in lines.items())])


def describe_rates(rates: Rates) -> str:
    """Return where the prediction's rates come from."""
    if rates.measured:
        work = ", ".join(f"{name}s {rate / 1e9:,.0f} GFLOP/s" for name, rate in rates.flops.items())
        each = "each operator of the step by itself"
        return f"{rates.name}, measured just now: {each}; at best {work}, memory {rates.bandwidth / 1e9:,.0f} GB/s"
    return f"{rates.name}, by its datasheet and 60 % of each roof: nobody has measured this prediction"


def _bytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{1e3 * seconds:.1f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else str(datetime.timedelta(seconds=round(seconds)))
