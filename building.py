"""The parts of a run, built from its settled flags: the model with its weights, the optimizer, the plan of steps."""

import argparse
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from model_flag_checks import check_model_flags
from models import build_model
from models.fast.compiled import LayerCompiler
from models.parameter_table import format_parameters, parameters_by_module
from models.segmentation import DETRsegm
from models.shape_table import format_shapes, shapes_of
from run_data import Data
from settings import Place, Weights
from training.whole_bf16 import compute_in_bfloat16
from util.dist.distributed import Launch, is_main_process, print_once
from util.dist.exchange import Exchange, sharded_adamw, without_effect, wrap
from util.runs.checkpoint import load_frozen, load_model
from util.runs.plan import TrainingPlan, is_training_state, steps_done, steps_of
from util.runs.schedule import KEEPS_RATE, is_alpha
from util.runs.start import init_from


@dataclass(frozen=True)
class Setup:
    """Facts of a run that all its parts may know: flags as typed and as settled, its place, its data.

    `chosen` has the flags that --preset chose: value and reason of each, by name.
    """

    typed: argparse.Namespace
    cfg: argparse.Namespace
    place: Place
    data: Data
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """The folder that this process writes to; None without --output_dir and on ranks other than 0."""
        return Path(self.cfg.output_dir) if self.cfg.output_dir and is_main_process() else None


@dataclass(frozen=True)
class Detector:
    """The model, inside DistributedDataParallel where there are several processes, and all that belongs to it."""

    model: nn.Module
    criterion: nn.Module
    postprocessors: dict[str, nn.Module]
    compiled: LayerCompiler | None


def build_detector(run: Setup, weights: Weights) -> Detector:
    """Build the model that the flags describe, with its criterion and postprocessors, and load its weights."""
    model, criterion, postprocessors = build_model(run.cfg, is_thing_map=run.data.is_thing)
    print_once(f"number of params: {count_trainable(model)}")
    # Before the model is wrapped, which puts a prefix before the name of every weight.
    load_weights(model, weights, run.data.class_names)
    detr = model.detr if isinstance(model, DETRsegm) else model
    if run.cfg.bf16:
        compute_in_bfloat16(detr)
    compiled = LayerCompiler(detr) if run.cfg.compile else None
    cfg = run.cfg
    exchange = Exchange(cfg.bucket_mb, cfg.static_graph, bf16=cfg.compress_gradients == "bf16")
    # An evaluation exchanges no gradients, and keeps quiet about it.
    if not cfg.eval and not run.place.launch.distributed and (idle := without_effect(cfg.zero, exchange)):
        print_once(f"{', '.join(idle)}: of no effect in a single process")
    return Detector(wrap_model(model, run.place.launch, exchange), criterion, postprocessors, compiled)


def print_shapes(args: argparse.Namespace) -> None:
    """Print the shapes of what passes through the model of the flags, with images of the usual 3 : 4."""
    check_model_flags(args)
    model, _, _ = build_model(argparse.Namespace(**vars(args) | {"device": "cpu", "backbone_weights": "none"}))
    # --image_size is the shorter side.
    height = args.image_size
    # Shapes do not depend on what is in the images.
    rows = shapes_of(model, torch.zeros(args.batch_size, 3, height, height * 4 // 3))
    print(f"{format_shapes(rows)}\nin all {sum(p.numel() for p in model.parameters()):,} parameters")


def describe_parameters(args: argparse.Namespace) -> None:
    """Print the parameters of the model of the flags by module; nothing is read or downloaded."""
    check_model_flags(args)
    model, _, _ = build_model(argparse.Namespace(**vars(args) | {"device": "cpu", "backbone_weights": "none"}))
    print(format_parameters(parameters_by_module(model)))


def load_weights(model: nn.Module, weights: Weights, class_names: Mapping[int, str]) -> None:
    """Put the weights of the run's checkpoints into the model, which has the classes `class_names` by category id.

    Raises CheckpointError for weights of another model.
    """
    if weights.frozen is not None:
        assert isinstance(model, DETRsegm)  # settle_flags refuses --frozen_weights without --masks
        print_once(load_frozen(model.detr, weights.frozen, weights.paths["frozen"]))
    if weights.resume is not None:
        load_model(model, weights.resume, weights.paths["resume"])
    if weights.start is not None:
        print_once(init_from(model, weights.start, class_names).describe(weights.paths["start"]))


def wrap_model(model: nn.Module, launch: Launch, exchange: Exchange | None = None) -> nn.Module:
    """Return the model, inside DistributedDataParallel when there are several processes."""
    if not launch.distributed:
        return model
    # A 1x1 convolution's gradient in channels-last order lies in memory as its weight does; only the strides of the
    # sides of length 1 differ, so nothing has to be rearranged for the exchange.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return wrap(model, launch, exchange)


def without_wrapper(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def count_trainable(model: nn.Module) -> int:
    """Return the number of parameters that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def build_optimizer(
    model: nn.Module,
    *,
    lr: float,
    lr_backbone: float,
    weight_decay: float,
    alpha_lr_mult: float = 10.0,
    sharded: bool = False,
) -> torch.optim.Optimizer:
    """Return AdamW over two groups, the backbone second with its own learning rate, as in DETR's checkpoints.

    Alphas that attentions learn are a third: no weight decay, `alpha_lr_mult` times the rate, which no schedule lowers.
    With `sharded` its state is divided among the processes; checkpoints are the same.
    """
    # DETR's order of groups and of parameters in them: the optimizer's state in a checkpoint goes by numbers.
    trainable = [(n, p) for n, p in without_wrapper(model).named_parameters() if p.requires_grad]
    alphas = [p for n, p in trainable if is_alpha(n)]
    head = [p for n, p in trainable if "backbone" not in n and not is_alpha(n)]
    backbone = [p for n, p in trainable if "backbone" in n]
    groups: list[dict[str, Any]] = [{"params": head}, {"params": backbone, "lr": lr_backbone}]
    if alphas:
        groups.append({"params": alphas, "lr": lr * alpha_lr_mult, "weight_decay": 0.0, KEEPS_RATE: True})
    # Fused: many tensors in one kernel, where the plain form launches several for each.
    make = sharded_adamw if sharded else torch.optim.AdamW
    return make(groups, lr=lr, weight_decay=weight_decay, fused=True)


def plan_steps(cfg: argparse.Namespace, checkpoint: dict[str, Any] | None, *, batches: int) -> TrainingPlan:
    """Return the steps of the run, those of its checkpoint as done; on resume, print where it goes on."""
    per_epoch = steps_of(batches, cfg.accumulate)
    done = steps_done(checkpoint, start_epoch=cfg.start_epoch, steps_per_epoch=per_epoch)
    # Saved at the end of an epoch but before its evaluation: that is made up for first.
    evaluated = (checkpoint or {}).get("within_epoch", {}).get("evaluated", True)
    plan = TrainingPlan(per_epoch, cfg.epochs, cfg.max_steps, done, unevaluated=not evaluated)
    if checkpoint is not None and is_training_state(checkpoint):
        print_once(f"resuming at epoch {plan.first_epoch}, step {plan.done}")
    return plan
