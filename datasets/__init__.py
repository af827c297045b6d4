"""Datasets by name: what the flags ask for, and where it lies. Nothing below this file reads the namespace of flags."""

from argparse import Namespace
from dataclasses import fields
from typing import Any, cast

import numpy as np
import torch
from pycocotools.coco import COCO
from torch.utils.data import Dataset, Subset

from util.dist.distributed import print_once
from util.errors import DatasetError

from . import coco, coco_panoptic
from .annotations.cache import ReadOptions
from .annotations.classes import ChosenClasses, words_of
from .annotations.dense import DenseLabels
from .annotations.losses import describe_losses, describe_nothing_to_measure, refuse_no_objects
from .augment.mosaic import Mosaic
from .augment.switches import Augmentation, make_training_transforms
from .collate import Collate, ObjectSizes, percentile_sizes
from .image_files import image_finder
from .interface import DatasetOrSubset, DetectionDataset
from .layout import FOLDER_LAYOUTS, DatasetSplits, find_layout, recognise_dataset
from .repeats import RepeatedImages, class_factors, image_factors
from .shapes.dataset import ShapesDataset, make_shapes_transforms
from .sizes import ImageSizes
from .transforms import Transform, make_coco_transforms

#: The names that --dataset_file takes.
DATASETS = (*FOLDER_LAYOUTS, "shapes")

#: Height and width with --pad: DETR's longest side in both, so that upright images fit as well.
DEFAULT_PAD_SIZE = (1333, 1333)


def build_dataset(image_set: str, args: Namespace, *, as_uint8: bool = False) -> DetectionDataset:
    """Build the "train", "val" or "test" part of the dataset that `args.dataset_file` names.

    Reads dataset_file, masks, num_classes, overfit; for shapes: train_size, val_size, image_size, seed; for the others:
    what `layout_from_flags` reads, image_size, max_size, train_scales, crop_resize, crop_size, cache, classes and if
    all of them must be there (`need_classes`), dense_labels and the `category_ids` of its labels; for training without
    overfit what `augmentation_from_flags` reads (see `with_mosaic` for the rest of it). Flags that DETR does not have
    may be missing. Images are float32 tensors (3, H, W), normalised by ImageNet's mean and deviation, as in DETR; with
    `as_uint8` they are bytes, a quarter of the memory, and `to_device` normalises a batch of them.
    Raises DatasetError for an unknown name, for data that is not where the flags say, and as the datasets do.
    """
    if args.dataset_file == "shapes":
        if image_set == "test":
            raise DatasetError("--split test: --dataset_file shapes draws training and validation images alone")
        return _build_shapes(image_set, args, as_uint8=as_uint8)
    layout = layout_from_flags(args)
    split = layout.split(image_set)
    parts = {
        "img_folder": split.images,
        "ann_file": split.annotations,
        "transforms": _transforms(image_set, args, as_uint8=as_uint8),
        "return_masks": args.masks,
        "num_classes": _flag(args, "num_classes"),
        "options": ReadOptions(cached=_flag(args, "cache", False)),
    }
    if args.dataset_file == "coco_panoptic":
        panoptic = coco_panoptic.open_split(**parts)
        # Before the first epoch instead of a loss of zeros for all of it.
        if not panoptic.object_counts().any():
            if image_set == "train":
                raise DatasetError(f"{panoptic.ann_file}: there is nothing to learn: it lists no segments")
            print_once(f"warning: {panoptic.ann_file}: it lists no segments: PQ and AP cannot be measured")
        return panoptic
    find_image = image_finder(args.dataset_file, layout, image_set)
    dataset = coco.CocoDetection(**parts, find_image=find_image, labels=_labels(args))
    if image_set == "train":
        refuse_no_objects(dataset.ann_file, dataset.annotations)
    describe = describe_losses if image_set == "train" else describe_nothing_to_measure
    line = describe(dataset.ann_file, dataset.annotations)
    if line is not None:
        print_once(line)
    return dataset


def with_training_transforms(dataset: DetectionDataset, args: Namespace) -> DetectionDataset:
    """Return a training set of files that was built before, with the transforms that the flags ask for now."""
    cast(Any, dataset).transforms = _transforms("train", args, as_uint8=True)
    return dataset


def dataset_file_from_flags(args: Namespace) -> str:
    """Return `args.dataset_file`, or where it is not given, what the folder looks like."""
    parts = ("train_images", "train_annotations", "val_images", "val_annotations")
    return _flag(args, "dataset_file") or recognise_dataset(
        _flag(args, "data_path") or _flag(args, "coco_path"),
        annotations_path=_flag(args, "coco_panoptic_path"),
        named=any(_flag(args, part) for part in parts),
    )


def layout_from_flags(args: Namespace) -> DatasetSplits:
    """Find where the data of `args.dataset_file`, other than shapes, lies.

    Reads data_path, coco_path, coco_panoptic_path, train_images, train_annotations, val_images, val_annotations. Raises
    DatasetError for an unknown name and as `find_layout` does.
    """
    if args.dataset_file not in FOLDER_LAYOUTS:
        raise DatasetError(f"--dataset_file {args.dataset_file}: no such dataset; known are {', '.join(DATASETS)}")
    data_path = _flag(args, "data_path") or _flag(args, "coco_path")
    parts = ("train_images", "train_annotations", "val_images", "val_annotations")
    return find_layout(
        args.dataset_file,
        data_path,
        annotations_path=_flag(args, "coco_panoptic_path") if args.dataset_file == "coco_panoptic" else None,
        **{part: _flag(args, part) for part in parts},
    )


def unwrap(dataset: DatasetOrSubset | Dataset) -> DetectionDataset:
    """Return the dataset under any number of `Subset`s."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return cast(DetectionDataset, dataset)


def category_ids(dataset: DatasetOrSubset | Dataset) -> dict[int, int] | None:
    """Return the category id of each label of a dataset with `--dense_labels`; None where labels are these ids."""
    return getattr(unwrap(dataset), "category_ids", None)


def get_coco_api_from_dataset(dataset: DatasetOrSubset | Dataset) -> COCO:
    """Return the ground truth, as pycocotools reads it, of a dataset or a Subset of one."""
    return unwrap(dataset).coco


def subset(dataset: DetectionDataset, fraction: float, seed: int) -> DatasetOrSubset:
    """Choose a random `fraction` of the images, at least one, in their order; the same for a seed on every rank.

    A fraction of 1 gives the dataset itself. Raises DatasetError for a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise DatasetError(f"--fast_dev_run takes a fraction above 0 and at most 1, got {fraction}")
    if fraction == 1:
        return dataset
    count = max(1, round(fraction * len(dataset)))
    # A generator of its own: the global one gives the same numbers with and without the flag.
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
    return Subset(cast(Dataset, dataset), order[:count].sort().values.tolist())


def first_images(dataset: DatasetOrSubset, count: int) -> DatasetOrSubset:
    """Choose the first `count` images; 0, or more than there are, gives the dataset itself."""
    if count == 0 or count >= len(dataset):
        return dataset
    return Subset(cast(Dataset, dataset), list(range(count)))


def few_with_objects(dataset: DatasetOrSubset, count: int) -> Subset:
    """Choose `count` of the images that hold an object, spread evenly; all of them where there are no more."""
    indices = np.asarray(dataset.indices) if isinstance(dataset, Subset) else np.arange(len(dataset))
    # (n,) positions in the dataset under the subset, where the counts are, too.
    labelled = indices[unwrap(dataset).object_counts()[indices] > 0]
    places = np.linspace(0, len(labelled) - 1, num=min(count, len(labelled))).round().astype(int)
    return Subset(cast(Dataset, unwrap(dataset)), labelled[places].tolist())


def build_collate(dataset: DatasetOrSubset, args: Namespace, *, training_set: DatasetOrSubset | None = None) -> Collate:
    """Decide how the batches of `dataset` are padded: by the flags pad, pad_size, pad_multiple, num_buckets.

    The lengths of object lists come from the objects of `training_set` (by default the dataset itself), the
    last extended to the largest image of `dataset`; no image is opened.
    """
    objects = None
    if args.num_buckets:
        counts = unwrap(dataset).object_counts()
        # Lengths are the training images': validation batches then have shapes that are compiled already.
        known = counts if training_set is None else unwrap(training_set).object_counts()
        objects = ObjectSizes(
            sizes=percentile_sizes(known, args.num_buckets, largest=int(counts.max())),
            # Padding of object lists takes the class "no object", the number after the last.
            no_object=args.num_classes or unwrap(dataset).num_classes,
        )
    canvas = tuple(args.pad_size or DEFAULT_PAD_SIZE) if args.pad else None
    return Collate(canvas=canvas, multiple=args.pad_multiple, objects=objects)


def aspect_ratios(dataset: DatasetOrSubset | Dataset) -> np.ndarray:
    """Return width / height of each image (n,) of a dataset or a Subset of one."""
    if isinstance(dataset, Subset):
        return aspect_ratios(dataset.dataset)[np.asarray(dataset.indices)]
    return unwrap(dataset).aspect_ratios()


def labels_of_images(dataset: DatasetOrSubset) -> list[np.ndarray]:
    """Return the labels (k,) of the objects of each image of a dataset or a Subset of one."""
    indices: np.ndarray = np.arange(len(dataset))
    whole: Any = dataset
    while isinstance(whole, Subset):
        # Subsets of subsets: positions are looked up from the outside in.
        indices, whole = np.asarray(whole.indices)[indices], whole.dataset
    dataset = unwrap(whole)
    if isinstance(dataset, coco.CocoDetection):
        labels = dataset.labels_by_image()
        return [labels[index] for index in indices.tolist()]
    return [dataset.labels_of(index) for index in indices.tolist()]


def repeated_images(dataset: DatasetOrSubset, threshold: float) -> RepeatedImages:
    """Return how often each training image comes in an epoch, as --repeat_factor says, and print it in a line."""
    labels, names = labels_of_images(dataset), unwrap(dataset).class_names
    of_class = class_factors(labels, threshold)
    repeats = RepeatedImages(image_factors(labels, of_class))
    rare = sorted((c for c, factor in of_class.items() if factor > 1), key=lambda c: -of_class[c])
    listed = ", ".join(f"{names.get(c, c)} x {of_class[c]:.2f}" for c in rare[:10]) or "no class is as rare"
    print_once(f"--repeat_factor {threshold}: an epoch has {len(repeats)} images instead of {len(labels)}: {listed}")
    return repeats


def augmentation_from_flags(args: Namespace) -> Augmentation:
    """Return the augmentation that the flags ask for, DETR's where they say nothing.

    Reads flip (--no_flip), vertical_flip, rotate90, color_jitter, mosaic, scale_jitter, crop_probability, crop_sides.
    Raises DatasetError for values out of range.
    """
    # DETR's own namespace has none of them: those that are missing keep DETR's behaviour.
    names = [field.name for field in fields(Augmentation)]
    return Augmentation(**{name: getattr(args, name) for name in names if hasattr(args, name)})


def with_mosaic(dataset: DatasetOrSubset, args: Namespace) -> DatasetOrSubset:
    """Return training images of which a part becomes four in one, as --mosaic says; without it the dataset itself."""
    # A trial that has to learn a few images by heart sees each of them as it is, every time.
    probability = 0 if _flag(args, "overfit") else augmentation_from_flags(args).mosaic
    transforms = unwrap(dataset).transforms
    return dataset if probability == 0 or transforms is None else Mosaic(dataset, probability, transforms)


def _labels(args: Namespace) -> DenseLabels | ChosenClasses | None:
    """Return how category ids become labels, None where they are the labels."""
    num_classes, dense, classes = _flag(args, "num_classes"), None, _flag(args, "classes")
    if _flag(args, "dense_labels"):
        dense = DenseLabels(_flag(args, "category_ids"), num_classes)
    if classes is None:
        return dense
    required = _flag(args, "need_classes", True)
    return ChosenClasses(words=words_of(classes), required=required, labels=dense or num_classes)


def _transforms(image_set: str, args: Namespace, *, as_uint8: bool) -> Transform:
    sizes = {
        "image_size": _flag(args, "image_size", 800),
        "max_size": _flag(args, "max_size"),
        "train_scales": _flag(args, "train_scales"),
        "crop_resize": _flag(args, "crop_resize"),
        "crop_size": _flag(args, "crop_size"),
    }
    # For the same reason --overfit trains on images as the evaluation sees them.
    if image_set != "train" or _flag(args, "overfit"):
        return make_coco_transforms("val", **sizes, as_uint8=as_uint8)
    fast_resize = bool(_flag(args, "fast_resize"))
    return make_training_transforms(
        augmentation_from_flags(args), ImageSizes(**sizes), fast_resize=fast_resize, as_uint8=as_uint8
    )


def _build_shapes(image_set: str, args: Namespace, *, as_uint8: bool) -> DetectionDataset:
    augmentation = augmentation_from_flags(args)
    return ShapesDataset(
        image_set=image_set,
        size=args.train_size if image_set == "train" else args.val_size,
        image_size=args.image_size,
        seed=args.seed,
        transforms=make_shapes_transforms(
            image_set if not _flag(args, "overfit") else "val",
            augmentation=augmentation,
            image_size=args.image_size,
            as_uint8=as_uint8,
        ),
        return_masks=args.masks,
    )


def _flag(args: Namespace, name: str, default: Any = None) -> Any:
    """Return a flag that DETR does not have: scripts written for DETR bring a namespace without it."""
    return getattr(args, name, default)
