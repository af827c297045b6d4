"""The parts of a run, built from its settled flags: data, loaders, weights in the model, optimizer."""

import argparse
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pycocotools.coco import COCO
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import datasets
from datasets.check.preflight import check_before_training
from datasets.foreign import note_on_ids
from datasets.interface import DatasetOrSubset, DetectionDataset
from datasets.loader import make_loader, make_sampler
from datasets.resumable import ResumableLoader
from flag_checks import check_model_flags
from models import build_model
from models.fast.compiled import LayerCompiler
from models.parameter_table import format_parameters, parameters_by_module
from models.segmentation import DETRsegm
from models.shape_table import format_shapes, shapes_of
from settings import Place, Weights
from training.whole_bf16 import compute_in_bfloat16
from util.dist.accelerator import accelerator
from util.dist.distributed import Launch, is_main_process, print_once
from util.dist.exchange import Exchange, sharded_adamw, without_effect, wrap
from util.runs.checkpoint import load_frozen, load_model
from util.runs.class_names import DataClasses
from util.runs.plan import TrainingPlan, is_training_state, steps_done, steps_of
from util.runs.schedule import KEEPS_RATE, is_alpha
from util.runs.start import init_from


@dataclass(frozen=True)
class Data:
    """The splits of a run and their facts.

    Attributes:
        train: None in an evaluation.
        val: the validation images.
        num_classes: one more than the largest category id, unless --num_classes says otherwise.
        class_names: by label.
        category_ids: with --dense_labels the category id of each label; else None, labels are these ids.
        is_thing: of a panoptic dataset, by category id: True for a thing, False for stuff; else None.
    """

    train: DatasetOrSubset | None
    val: DatasetOrSubset
    num_classes: int
    class_names: Mapping[int, str]
    is_thing: Mapping[int, bool] | None
    category_ids: Mapping[int, int] | None = None

    @property
    def truth(self) -> COCO:
        """Return the validation images' annotations as pycocotools reads them."""
        return datasets.get_coco_api_from_dataset(self.val)

    @property
    def in_checkpoint(self) -> dict[str, Any]:
        """Return what a checkpoint says about the classes, so that it can be used without the data."""
        return {"class_names": self.class_names, "is_thing": self.is_thing}

    def classes(self, *, learned: bool) -> DataClasses:
        """Return what a checkpoint must agree with; `learned`: by training, not by an evaluation alone."""
        return DataClasses(self.class_names, self.num_classes, learned)


@dataclass(frozen=True)
class Loaders:
    """Batches of the splits; `train` is None in an evaluation."""

    train: ResumableLoader | None
    val: DataLoader


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


def build_data(
    cfg: argparse.Namespace,
    category_ids: tuple[int, ...] | None = None,
    *,
    opened: DetectionDataset | None = None,
) -> Data:
    """Read the annotations, say what was found, and look at the data. Raises UserError.

    `category_ids` is the order of --dense_labels in a checkpoint, by default that of the training set. `opened` is the
    training set where it has been read already.
    """
    if cfg.dataset_file != "shapes":
        print_once(datasets.layout_from_flags(cfg).describe())
    cfg = argparse.Namespace(**vars(cfg) | {"category_ids": category_ids})
    train = None if cfg.eval else build_split("train", cfg, opened)
    if train is not None and cfg.overfit:
        # Of the images that --fast_dev_run left, if both are given.
        train = datasets.few_with_objects(train, cfg.overfit)
    # The class count is the training set's, and the validation set is checked against it.
    known = cfg.num_classes or (datasets.unwrap(train).num_classes if train is not None else None)
    listed = None if train is None else datasets.category_ids(train)
    if listed is not None and category_ids is None:
        cfg.category_ids = tuple(listed.values())
    # So a label of the validation images beyond the training set's is refused on reading.
    if train is not None and cfg.overfit:
        # Does it learn these very images by heart? Only they can say.
        val = train
    else:
        known_of_val = {"num_classes": known, "need_classes": train is None}
        val = build_split(cfg.split, argparse.Namespace(**vars(cfg) | known_of_val))
    # Names and classes are the training set's: labels of the model mean those.
    first = datasets.unwrap(val if train is None else train)
    listed = datasets.category_ids(first)
    ids = None if listed is None else dict(enumerate(cfg.category_ids or listed.values()))
    data = Data(train, val, known or first.num_classes, first.class_names, first.is_thing, ids)
    describe_data(data, cfg)
    if cfg.check:
        splits = {"train": train, cfg.split: val}
        for line in check_before_training({name: split for name, split in splits.items() if split is not None}):
            print_once(line)
    return data


def build_split(image_set: str, cfg: argparse.Namespace, opened: DetectionDataset | None = None) -> DatasetOrSubset:
    """Return a split's dataset, or the part of it that --fast_dev_run asks for; `opened`: the training set as read."""
    if opened is None:
        dataset = datasets.build_dataset(image_set, cfg, as_uint8=True)
    else:
        dataset = datasets.with_training_transforms(opened, cfg)
    chosen = datasets.subset(dataset, cfg.fast_dev_run, cfg.seed)
    if image_set != "train":
        chosen = datasets.first_images(chosen, cfg.max_inf_frames)
    return datasets.with_mosaic(chosen, cfg) if image_set == "train" else chosen


def describe_data(data: Data, cfg: argparse.Namespace) -> None:
    """Print the images and classes that were found, and a warning for images with more objects than queries."""
    splits = [(data.train, "training"), (data.val, "test" if cfg.split == "test" else "validation")]
    sizes = ", ".join(f"{len(split)} {name} images" for split, name in splits if split is not None)
    names = ", ".join(data.class_names.values())
    print_once(f"{cfg.dataset_file}: {sizes}; {len(data.class_names)} classes: {names}")
    if note := note_on_ids(data.class_names):
        print_once(note)
    if data.category_ids is not None:
        ids = ", ".join(f"{id_} -> {label}" for label, id_ in list(data.category_ids.items())[:20])
        print_once(f"--dense_labels: labels of the category ids: {ids}{' ...' if len(data.category_ids) > 20 else ''}")
    counts = datasets.unwrap(data.val if data.train is None else data.train).object_counts()
    # A query finds one object at most; the matcher leaves out the rest without a word.
    crowded = int((counts > cfg.num_queries).sum())
    if crowded:
        print_once(
            f"warning: --num_queries {cfg.num_queries} is less than the objects of {crowded} of {len(counts)} images "
            f"(up to {counts.max()}); the objects beyond it are not learned"
        )


def build_loaders(data: Data, cfg: argparse.Namespace, launch: Launch) -> Loaders:
    """Return the batches of training, shuffled and whole, and those of evaluation, in order and complete."""
    train = None if data.train is None else build_loader(data.train, cfg, launch, train=True)
    return Loaders(train, build_loader(data.val, cfg, launch, train=False, training_set=data.train))


def build_loader(
    dataset: DatasetOrSubset,
    cfg: argparse.Namespace,
    launch: Launch,
    *,
    train: bool,
    training_set: DatasetOrSubset | None = None,
) -> ResumableLoader:
    """Return the batches of a split: shuffled and whole in training, in order and complete in evaluation.

    The lengths of padded object lists come from the objects of `training_set`, by default the split itself.
    """
    batch_size = cfg.batch_size if train else cfg.eval_batch_size or cfg.batch_size
    # Each process draws its own part of one common order, so all must shuffle from the same seed.
    sampler = make_sampler(
        dataset,
        batch_size=batch_size,
        shuffle=train,
        seed=cfg.seed,
        rank=launch.rank,
        world_size=launch.world_size,
        aspects=datasets.aspect_ratios(dataset) if train and cfg.aspect_grouping else None,
        repeats=datasets.repeated_images(dataset, cfg.repeat_factor) if train and cfg.repeat_factor else None,
    )
    return make_loader(
        dataset,
        sampler,
        batch_size=batch_size,
        # Whole batches in training: BatchNorm and the mean of losses would give a small last one more weight.
        drop_last=train,
        num_workers=cfg.num_workers,
        # Lengths of padded lists are the training set's in evaluation, too: no new input shapes for a compiler.
        collate=datasets.build_collate(dataset, cfg, training_set=training_set),
        # From pinned memory a copy to the GPU runs beside its work.
        pin_memory=accelerator(torch.device(cfg.device)).pinned,
    )


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
