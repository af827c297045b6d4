"""Lines that public scripts, notebooks and forks of the original DETR consist of: imports, calls, loops, folders."""

import importlib
import inspect
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from util.plot_precision import read_evaluation

ROOT = Path(__file__).resolve().parents[1]

IMPORTS = """
from main import get_args_parser, main
from engine import evaluate, train_one_epoch
from hubconf import detr_resnet50, detr_resnet50_dc5, detr_resnet101, detr_resnet101_dc5
from hubconf import detr_resnet50_panoptic, detr_resnet50_dc5_panoptic, detr_resnet101_panoptic, _make_detr
from models import build_model
from models.detr import DETR, MLP, PostProcess, SetCriterion, build
from models.detr import build_backbone, build_matcher, build_transformer, nested_tensor_from_tensor_list
from models.backbone import Backbone, BackboneBase, FrozenBatchNorm2d, Joiner, build_backbone
from models.matcher import HungarianMatcher, build_matcher
from models.position_encoding import PositionEmbeddingLearned, PositionEmbeddingSine, build_position_encoding
from models.transformer import Transformer, TransformerDecoder, TransformerDecoderLayer, build_transformer
from models.transformer import TransformerEncoder, TransformerEncoderLayer
from models.segmentation import DETRsegm, MaskHeadSmallConv, MHAttentionMap, PostProcessPanoptic, PostProcessSegm
from models.segmentation import dice_loss, sigmoid_focal_loss
import datasets
import datasets.transforms as T
import datasets.samplers as samplers
from datasets import build_dataset, get_coco_api_from_dataset
from datasets.coco import CocoDetection, ConvertCocoPolysToMask, build, convert_coco_poly_to_mask, make_coco_transforms
from datasets.coco_eval import CocoEvaluator, convert_to_xywh
from datasets.coco_panoptic import CocoPanoptic, build
from datasets.panoptic_eval import PanopticEvaluator
import util.misc as utils
import util.misc as misc
from util import box_ops
from util.misc import NestedTensor, collate_fn, nested_tensor_from_tensor_list
from util.misc import accuracy, get_world_size, interpolate, is_dist_avail_and_initialized
from util.misc import MetricLogger, SmoothedValue, all_gather, get_rank, get_sha, init_distributed_mode
from util.misc import is_main_process, reduce_dict, save_on_master, setup_for_distributed
from util.box_ops import box_area, box_cxcywh_to_xyxy, box_iou, box_xyxy_to_cxcywh, generalized_box_iou, masks_to_boxes
from util.plot_utils import plot_logs, plot_precision_recall
from run_with_submitit import Trainer, get_init_file, get_shared_folder, parse_args
"""

#: Calls by position as scripts make them, where `_` is any value: module, name, number of values, keywords.
CALLS = [
    ("engine", "train_one_epoch", 7, ()),
    ("engine", "evaluate", 7, ()),
    ("models.detr", "DETR", 2, ("num_classes", "num_queries", "aux_loss")),
    ("models.detr", "DETR", 5, ()),
    ("models.detr", "SetCriterion", 5, ()),
    ("models.detr", "SetCriterion", 1, ("matcher", "weight_dict", "eos_coef", "losses")),
    ("models.detr", "MLP", 4, ()),
    ("models.matcher", "HungarianMatcher", 3, ()),
    ("models.position_encoding", "PositionEmbeddingSine", 1, ("normalize",)),
    ("models.backbone", "Backbone", 4, ()),
    ("models.backbone", "BackboneBase", 4, ()),
    ("models.transformer", "Transformer", 9, ()),
    ("models.transformer", "TransformerEncoder", 3, ()),
    ("models.transformer", "TransformerDecoder", 3, ("return_intermediate",)),
    ("models.transformer", "TransformerEncoderLayer", 6, ()),
    ("models.transformer", "TransformerDecoderLayer", 6, ()),
    ("models.segmentation", "DETRsegm", 1, ("freeze_detr",)),
    ("datasets", "build_dataset", 0, ("image_set", "args")),
    ("datasets", "build_dataset", 2, ()),
    ("datasets.coco", "build", 2, ()),
    ("datasets.coco", "make_coco_transforms", 1, ()),
    ("datasets.coco", "CocoDetection", 4, ()),
    ("datasets.coco", "CocoDetection", 2, ("transforms", "return_masks")),
    ("datasets.coco_eval", "CocoEvaluator", 2, ()),
    ("datasets.coco_panoptic", "build", 2, ()),
    ("datasets.coco_panoptic", "CocoPanoptic", 5, ()),
    ("datasets.panoptic_eval", "PanopticEvaluator", 2, ("output_dir",)),
    ("util.misc", "MetricLogger", 0, ("delimiter",)),
    ("util.misc", "SmoothedValue", 0, ("window_size", "fmt")),
    ("util.misc", "interpolate", 1, ("size", "mode", "align_corners")),
    ("util.plot_utils", "plot_logs", 4, ()),
    ("util.plot_utils", "plot_precision_recall", 2, ()),
]


@pytest.fixture(autouse=True)
def no_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the backbone's weights random: nothing is downloaded."""
    monkeypatch.setattr("models.backbone.load_imagenet_weights", lambda *_, **__: None)
    monkeypatch.setattr("models.backbone_weights.load_imagenet_weights", lambda *_, **__: None)


@pytest.mark.parametrize("line", IMPORTS.strip().splitlines())
def test_names_are_imported_from_where_the_original_has_them(line: str) -> None:
    found: dict[str, Any] = {}
    exec(line, found)
    assert all(isinstance(v, ModuleType) or callable(v) for n, v in found.items() if not n.startswith("__"))


@pytest.mark.parametrize(("module", "name", "places", "keywords"), CALLS)
def test_calls_take_the_originals_places_and_keywords(
    module: str, name: str, places: int, keywords: tuple[str, ...]
) -> None:
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    bound = signature.bind(*range(places), **dict.fromkeys(keywords))
    assert len(bound.arguments) == places + len(keywords)


# ---- a script with its own loop


def small_flags(coco_folder: Path, *more: str) -> Namespace:
    """Parse as a fork does: a parser of its own with ours as parent, and attributes set afterwards."""
    from main import get_args_parser

    parser = ArgumentParser("DETR training and evaluation script", parents=[get_args_parser()])
    parser.add_argument("--my_flag", default=3, type=int)
    args = parser.parse_args(
        f"--coco_path {coco_folder} --device cpu --backbone resnet18 --enc_layers 1 --dec_layers 2 --hidden_dim 16 "
        "--nheads 2 --dim_feedforward 16 --num_queries 5 --batch_size 2 --num_workers 0".split()
        + list(more)
    )
    assert args.my_flag == 3
    return args


def loaders(args: Namespace) -> tuple[DataLoader, DataLoader, Any]:
    """Build both loaders as main.py of the original does, over images of the original's kind: floats."""
    import util.misc as utils
    from datasets import build_dataset, get_coco_api_from_dataset

    dataset_train, dataset_val = (build_dataset(image_set=image_set, args=args) for image_set in ("train", "val"))
    sampler_train = torch.utils.data.RandomSampler(dataset_train)
    sampler_val = torch.utils.data.SequentialSampler(dataset_val)
    batch_sampler_train = torch.utils.data.BatchSampler(sampler_train, args.batch_size, drop_last=True)
    data_loader_train = DataLoader(
        dataset_train, batch_sampler=batch_sampler_train, collate_fn=utils.collate_fn, num_workers=args.num_workers
    )
    data_loader_val = DataLoader(
        dataset_val, args.batch_size, sampler=sampler_val, drop_last=False, collate_fn=utils.collate_fn, num_workers=0
    )
    return data_loader_train, data_loader_val, get_coco_api_from_dataset(dataset_val)


@pytest.mark.slow
def test_a_loop_as_notebooks_write_it(coco_folder: Path, capsys: pytest.CaptureFixture) -> None:
    import util.misc as utils
    from datasets.coco_eval import CocoEvaluator
    from models import build_model

    args = small_flags(coco_folder)
    args.image_size, args.crop_size, args.crop_resize = 64, [32, 48], [48]
    utils.init_distributed_mode(args)
    assert args.distributed is False
    device = torch.device(args.device)
    model, criterion, postprocessors = build_model(args)
    model.to(device)
    data_loader_train, data_loader_val, base_ds = loaders(args)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    model.train()
    criterion.train()
    metric_logger = utils.MetricLogger(delimiter="  ")
    metric_logger.add_meter("lr", utils.SmoothedValue(window_size=1, fmt="{value:.6f}"))
    for samples, targets in metric_logger.log_every(data_loader_train, 10, "Epoch: [0]"):
        samples = samples.to(device)
        assert samples.tensors.dtype == torch.float32 and samples.tensors.min() < -1
        targets = [{k: v.to(device) for k, v in t.items()} for t in targets]
        outputs = model(samples)
        loss_dict = criterion(outputs, targets)
        weight_dict = criterion.weight_dict
        losses = sum(loss_dict[k] * weight_dict[k] for k in loss_dict.keys() if k in weight_dict)
        loss_dict_reduced = utils.reduce_dict(loss_dict)
        optimizer.zero_grad()
        losses.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        metric_logger.update(loss=losses, class_error=loss_dict_reduced["class_error"])
        metric_logger.update(lr=optimizer.param_groups[0]["lr"])
    metric_logger.synchronize_between_processes()
    assert metric_logger.loss.count == 2 and "Epoch: [0]  [1/2]  eta" in capsys.readouterr().out

    model.eval()
    coco_evaluator = CocoEvaluator(base_ds, ["bbox"])
    coco_evaluator.coco_eval["bbox"].params.iouThrs = np.array([0.3, 0.5])
    with torch.no_grad():
        for samples, targets in data_loader_val:
            outputs = model(samples.to(device))
            orig_target_sizes = torch.stack([t["orig_size"] for t in targets], dim=0)
            results = postprocessors["bbox"](outputs, orig_target_sizes)
            coco_evaluator.update({t["image_id"].item(): output for t, output in zip(targets, results)})
    coco_evaluator.synchronize_between_processes()
    coco_evaluator.accumulate()
    coco_evaluator.summarize()
    assert coco_evaluator.coco_eval["bbox"].eval["precision"].shape[0] == 2
    assert len(coco_evaluator.coco_eval["bbox"].stats.tolist()) == 12


@pytest.mark.slow
def test_a_forks_main_with_the_engine(coco_folder: Path, tmp_path: Path) -> None:
    import util.misc as utils
    from engine import evaluate, train_one_epoch
    from models import build_model

    args = small_flags(coco_folder)
    args.image_size, args.crop_size, args.crop_resize, args.output_dir = 64, [32, 48], [48], tmp_path
    model, criterion, postprocessors = build_model(args)
    train, val, base_ds = loaders(args)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    device = torch.device("cpu")
    stats = train_one_epoch(model, criterion, train, optimizer, device, 0, args.clip_max_norm)
    assert stats["loss"] > 0 and stats["lr"] == pytest.approx(1e-4)
    stats, evaluator = evaluate(model, criterion, postprocessors, val, base_ds, device, args.output_dir)
    assert len(stats["coco_eval_bbox"]) == 12 and evaluator.coco_eval["bbox"].stats.shape == (12,)
    utils.save_on_master(evaluator.coco_eval["bbox"].eval, tmp_path / "latest.pth")
    precision = evaluator.coco_eval["bbox"].eval["precision"]
    assert np.array_equal(read_evaluation(tmp_path / "latest.pth")["precision"], precision)


# ---- own losses, own datasets


def test_a_fork_changes_one_loss(coco_folder: Path) -> None:
    from models.detr import SetCriterion
    from models.matcher import HungarianMatcher

    class Focal(SetCriterion):
        def loss_labels(self, outputs: dict, targets: list, indices: list, num_boxes: Any, log: bool = True) -> dict:
            logits = outputs["pred_logits"]
            idx = self._get_src_permutation_idx(indices)
            wanted = torch.cat([t["labels"][j] for t, (_, j) in zip(targets, indices)])
            classes = torch.full(logits.shape[:2], self.num_classes, dtype=torch.int64)
            classes[idx] = wanted
            onehot = torch.nn.functional.one_hot(classes, self.num_classes + 1)[..., :-1].float()
            return {"loss_ce": torch.nn.functional.binary_cross_entropy_with_logits(logits[..., :-1], onehot)}

    weight_dict = {"loss_ce": 1, "loss_bbox": 5}
    criterion = Focal(4, HungarianMatcher(1, 5, 2), weight_dict, 0.1, ["labels", "boxes"])
    outputs = {"pred_logits": torch.zeros(1, 3, 5), "pred_boxes": torch.full((1, 3, 4), 0.5)}
    targets = [{"labels": torch.tensor([2]), "boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]])}]
    losses = criterion(outputs, targets)
    assert losses["loss_ce"].item() == pytest.approx(np.log(2)) and losses["loss_bbox"] == 0
    assert set(losses) == {"loss_ce", "loss_bbox", "loss_giou"}


class OwnImages(Dataset):
    """A dataset as projects write them, with the original's own helpers and annotations from anywhere."""

    def __init__(self, transforms: Any) -> None:
        from datasets.coco import ConvertCocoPolysToMask

        self.prepare = ConvertCocoPolysToMask(False)
        self._transforms = transforms

    def __len__(self) -> int:
        return 4

    def __getitem__(self, idx: int) -> tuple[Tensor, dict]:
        img = Image.new("RGB", (60, 40 + 4 * idx), (200, 30 * idx, 0))
        box = {"bbox": [10, 10, 20, 20], "category_id": 1 + idx % 2, "area": 400, "iscrowd": 0}
        img, target = self.prepare(img, {"image_id": idx, "annotations": [box]})
        return self._transforms(img, target)


@pytest.mark.slow
def test_an_own_dataset_and_an_own_collate_train(coco_folder: Path) -> None:
    import datasets.transforms as T
    from engine import train_one_epoch
    from models.detr import build
    from util.misc import nested_tensor_from_tensor_list

    def own_collate(batch: list) -> tuple:
        images, targets = zip(*batch)
        keep = ("boxes", "labels")
        return nested_tensor_from_tensor_list(list(images)), [{k: t[k] for k in keep} for t in targets]

    normalize = T.Compose([T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    transforms = T.Compose([T.RandomHorizontalFlip(), T.RandomResize([64, 72], max_size=96), normalize])
    loader = DataLoader(OwnImages(transforms), batch_size=2, collate_fn=own_collate)
    args = small_flags(coco_folder)
    args.num_classes = 3
    model, criterion, _ = build(args)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    stats = train_one_epoch(model, criterion, loader, optimizer, torch.device("cpu"), 0)
    assert np.isfinite(stats["loss"]) and stats["loss_giou"] > 0


def test_a_subclass_of_the_dataset_reads_what_torchvisions_has(coco_folder: Path) -> None:
    import torchvision

    from datasets.coco import CocoDetection, make_coco_transforms

    class Own(CocoDetection):
        def __init__(self, img_folder: Path, ann_file: Path, transforms: Any, return_masks: bool) -> None:
            super().__init__(img_folder, ann_file, transforms, return_masks)
            self.names = [self.coco.loadImgs(i)[0]["file_name"] for i in self.ids]

    annotations = coco_folder / "annotations" / "instances_val2017.json"
    dataset = Own(coco_folder / "val2017", annotations, make_coco_transforms("val"), False)
    assert isinstance(dataset, torchvision.datasets.CocoDetection)
    assert dataset.ids == [1, 4, 7, 9] and dataset.names[1] == "000000000004.png"
    assert dataset._transforms is not None and dataset.prepare.return_masks is False
    image, target = dataset[0]
    assert image.dtype == torch.float32 and 0 < target["boxes"].max() <= 1


# ---- a checkout as a folder of another project

NESTED = """
import sys
sys.path.append("detr")
import models
from detr.models.matcher import HungarianMatcher
from detr.models.detr import DETR, SetCriterion, PostProcess
from detr.models import build_model
from detr.datasets.coco import make_coco_transforms
from detr.util.misc import NestedTensor
import torch
assert models.MINE == 1 and not hasattr(models, "build_model")
model = build_model(dict(
    backbone="resnet18", backbone_weights="none", dilation=False, position_embedding="sine", lr_backbone=1e-5,
    masks=False, hidden_dim=16, nheads=2, enc_layers=1, dec_layers=1, dim_feedforward=16, dropout=0.0, pre_norm=False,
    num_queries=5, aux_loss=False, device="cpu", dataset_file="coco", set_cost_class=1, set_cost_bbox=5,
    set_cost_giou=2, bbox_loss_coef=5, giou_loss_coef=2, mask_loss_coef=1, dice_loss_coef=1, eos_coef=0.1,
    frozen_weights=None,
))[0]
assert isinstance(model, DETR)
batch = NestedTensor(torch.rand(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool))
print(tuple(model(batch)["pred_boxes"].shape), HungarianMatcher(1, 5, 2).cost_bbox)
"""


@pytest.mark.slow
def test_a_checkout_is_a_folder_of_a_project_with_its_own_models(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("MINE = 1\n")
    (tmp_path / "detr").symlink_to(ROOT, target_is_directory=True)
    (tmp_path / "script.py").write_text(NESTED)
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "(1, 5, 4) 5"
