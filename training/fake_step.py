"""A training step on a device that need not be there, without numbers: what it costs, and whether all is in place."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from building import build_optimizer
from engine import Batch, StepContext, add_gradients, optimizer_step
from models import build_model, criterion, matcher
from models.backbone import FrozenBatchNorm2d
from models.matcher import Match
from util.dist.precision import Precision
from util.nested_tensor import NestedTensor
from util.profiling import Section
from util.profiling.fake_device import fake_autocast, fake_device
from util.profiling.phases import StepPhases
from util.profiling.step_counter import StepCounter, StepCounts, saved_for_backward


@dataclass(frozen=True)
class FakeParts:
    """All that a training step needs, on one fake device."""

    model: nn.Module
    criterion: nn.Module
    postprocessors: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    context: StepContext
    device: torch.device


class FakePrecision(Precision):
    """Autocast that works for a GPU that is not there. float16 is counted without its scaled loss."""

    def __init__(self, device: torch.device, dtype: torch.dtype | None) -> None:
        super().__init__(device, None)
        self.dtype = dtype

    def autocast(self) -> AbstractContextManager:
        """Return a context for the forward pass."""
        if self.dtype is None or self.device_type != "cuda":
            return super().autocast()
        return fake_autocast(self.dtype)


class SectionNames:
    """A watcher that tells a counter which part of the step runs, and counts what the forward pass keeps."""

    done = False

    def __init__(self, counter: StepCounter, model: nn.Module) -> None:
        self.counter, self.model = counter, model
        self._kept = ExitStack()

    def begin_wait(self) -> None:
        """Nothing is counted."""

    def begin_step(self, step: int) -> None:
        """Count what this step keeps, from here to its backward pass."""
        self._kept.enter_context(saved_for_backward(self.counter.counts, self.model))

    def begin(self, section: Section) -> None:
        """Note the section."""
        self.counter.section = str(section)
        if section is Section.BACKWARD:
            self._kept.close()

    def end(self, section: Section) -> None:
        """Between two sections there is no name."""
        self.counter.section = ""

    def end_step(self) -> None:
        """Nothing is open any more."""
        self._kept.close()


@contextmanager
def fake_training(flags: argparse.Namespace, device: torch.device) -> Iterator[FakeParts]:
    """A context on a fake device with the model of the flags in training, its criterion and its optimizer."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(flags.amp)
    # The model is built inside: tensors made outside would be real, and not mix with fake ones.
    with fake_device(device) as fake, fake_assignment():
        # DETR's flag would download weights; none are needed.
        args = argparse.Namespace(**vars(flags) | {"device": str(device), "backbone_weights": "none"})
        model, losses, postprocessors = build_model(args)
        fake.follow(model)
        rates = {"lr": args.lr, "lr_backbone": args.lr_backbone, "weight_decay": args.weight_decay}
        optimizer = build_optimizer(model, **rates)
        context = StepContext(precision=FakePrecision(device, dtype))
        model.train()
        losses.train()
        yield FakeParts(model, losses, postprocessors, optimizer, context, device)


def count_step(
    flags: argparse.Namespace,
    device: torch.device,
    size: tuple[int, int],
    *,
    objects: int = 7,
    with_calls: bool = False,
) -> StepCounts:
    """Count a training step of the flags on images of `size`, height and width, with as many objects each.

    `with_calls` keeps the forms of all calls, by which they can be made again with numbers.
    """
    with fake_training(flags, device) as parts:
        batch = fake_batch(flags.batch_size, size, objects=objects, masks=flags.masks)
        counter = StepCounter(with_calls=with_calls)
        phases = StepPhases([SectionNames(counter, parts.model)])
        context = StepContext(precision=parts.context.precision, phases=phases)
        # Outside of the counter: AdamW makes its moments in the first step alone, and thousands follow.
        make_state(parts.optimizer)
        for module in parts.model.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.scale_and_shift()  # kept from the first step on
        with counter, phases.step():
            # The engine's own functions, so that the card counts what a training runs.
            add_gradients(parts.model, parts.criterion, [batch] * flags.accumulate, device, context)
            optimizer_step(parts.model, parts.optimizer, flags.clip_max_norm, context)
        return counter.counts


def make_state(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimizer's state, which its first step does: the step that is counted is a later one."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def fake_batch(images: int, size: tuple[int, int], *, objects: int, masks: bool) -> Batch:
    """Return a batch on the host, of bytes as the loader makes it; inside of `fake_device` without numbers."""
    pixels = torch.zeros(images, 3, *size, dtype=torch.uint8)
    samples = NestedTensor(pixels, torch.zeros(images, *size, dtype=torch.bool))
    targets = []
    for _ in range(images):
        target: dict[str, Any] = {
            "labels": torch.zeros(objects, dtype=torch.int64),
            # A valid cxcywh box; without numbers only its shape counts.
            "boxes": torch.full((objects, 4), 0.5),
        }
        if masks:
            target["masks"] = torch.zeros(objects, *size, dtype=torch.bool)
        targets.append(target)
    return samples, cast(Any, targets)


@contextmanager
def fake_assignment() -> Iterator[None]:
    """A context in which the matcher, which needs numbers, pairs the first queries with the objects in their order.

    The padded size of masks, which the model gives as numbers on the host, is then that of the masks themselves.
    """

    def assign(costs: Sequence[Sequence[Tensor]]) -> list[list[Match]]:
        pairs = [  # of images (L, Q, T)
            [(torch.arange(min(image.shape[1:])),) * 2 for image in images] for images in costs for _ in images[0]
        ]
        return cast(list[list[Match]], pairs)

    real = matcher.assign_on_host, criterion.canvas_of
    matcher.assign_on_host, criterion.canvas_of = assign, lambda outputs: None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        matcher.assign_on_host, criterion.canvas_of = real  # type: ignore[attr-defined]
