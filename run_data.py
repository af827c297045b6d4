"""The data of a run, built from its settled flags: the splits, what was found in them, and their batches."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pycocotools.coco import COCO
from torch.utils.data import DataLoader

import datasets
from datasets.check.preflight import check_before_training
from datasets.foreign import note_on_ids
from datasets.interface import DatasetOrSubset, DetectionDataset
from datasets.loader import make_loader, make_sampler
from datasets.resumable import ResumableLoader
from util.dist.accelerator import accelerator
from util.dist.distributed import Launch, print_once
from util.runs.class_names import DataClasses


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
