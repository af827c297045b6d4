"""Whole runs with the flags of loading: what is logged, what is refused, and the same run twice, bit by bit."""

import json
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import building
import datasets
import main
import run_data
from engine import compute_losses, to_device
from tests.helpers import TINY, assert_refused, batch, build, rows, rows_without_measured
from util.dist.distributed import Launch

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")

#: Operations that PyTorch's documentation of `torch.use_deterministic_algorithms` lists as having no deterministic
#: kernel on CUDA, in the names that its dispatcher gives them.
NOT_DETERMINISTIC = {
    "_ctc_loss_backward",
    "_embedding_bag_dense_backward",
    "adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "adaptive_max_pool2d_backward",
    "avg_pool3d_backward",
    "bincount",
    "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
    "histc",
    "kthvalue",
    "max_unpool2d",
    "max_unpool3d",
    "median",
    "nanmedian",
    "nll_loss2d_forward",
    "put_",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "reflection_pad3d_backward",
    "scatter_reduce",
    "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward",
    "upsample_linear1d_backward",
    "upsample_trilinear3d_backward",
}


@pytest.fixture(autouse=True)
def keep_algorithms(monkeypatch: pytest.MonkeyPatch):
    """--deterministic is for a whole process; here the next test shall not know."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    filled = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = filled


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoint.pth", weights_only=True)["model"]


# ---- padding and grouping


@pytest.mark.slow
def test_padding_and_shapes_are_logged_by_default(run, tmp_path: Path, coco_folder: Path) -> None:
    code, out, err = run(
        f"{TINY} --dataset_file coco --coco_path {coco_folder} --batch_size 2 --epochs 1 --output_dir {tmp_path}"
    )
    assert code == 0, err
    (row,) = rows(tmp_path)
    assert 0 < row["train_padding"] < 0.6 and row["train_shapes"] == 2 and 1 <= row["train_object_sizes"] <= 3
    assert f"padding: {row['train_padding']:.1%} of the pixels, distinct input shapes: 2" in out


@pytest.mark.slow
def test_pad_and_one_bucket_give_one_shape(run, tmp_path: Path, coco_folder: Path) -> None:
    flags = "--pad --pad_size 110 120 --num_buckets 1 --aspect_grouping --batch_size 2 --epochs 2"
    code, _, err = run(f"{TINY} --dataset_file coco --coco_path {coco_folder} {flags} --output_dir {tmp_path}")
    assert code == 0, err
    for row in rows(tmp_path):
        assert (row["train_shapes"], row["train_object_sizes"]) == (1, 1) and row["train_padding"] > 0.5


def test_pad_multiple_rounds_every_canvas(coco_folder: Path) -> None:
    args = main.FlagParser(parents=[main.get_args_parser()]).parse_args(
        f"{TINY} --dataset_file coco --coco_path {coco_folder} --pad_multiple 32 --batch_size 2".split()
    )
    loader = run_data.build_loader(run_data.build_split("train", args), args, Launch(), train=True)
    sides = {side for samples, _ in loader for side in samples.tensors.shape[2:]}
    assert sides and all(side % 32 == 0 for side in sides)


def test_aspect_ratios_come_from_annotations_or_else_from_image_files(coco_folder: Path) -> None:
    file = coco_folder / "annotations" / "instances_train2017.json"
    args = main.FlagParser(parents=[main.get_args_parser()]).parse_args(
        f"{TINY} --dataset_file coco --coco_path {coco_folder}".split()
    )
    expected = [60 / 40, 40 / 50, 33 / 47, 60 / 40]
    for keep in (True, False):
        data = json.loads(file.read_text())
        images = [{k: v for k, v in i.items() if keep or k not in ("width", "height")} for i in data["images"]]
        file.write_text(json.dumps(data | {"images": images}))
        dataset = run_data.build_split("train", args)
        assert datasets.aspect_ratios(dataset).tolist() == pytest.approx(expected)
    part = torch.utils.data.Subset(torch.utils.data.Subset(dataset, [3, 2, 0]), [1, 2])
    assert datasets.aspect_ratios(part).tolist() == pytest.approx([33 / 47, 60 / 40])


@pytest.mark.slow
def test_padded_object_lists_train_to_the_same_numbers(run, tmp_path: Path) -> None:
    for name, flags in (("without", ""), ("with", "--num_buckets 2")):
        assert run(f"{TINY} --epochs 2 --output_dir {tmp_path / name} {flags}")[0] == 0
    for plain, padded in zip(*(rows_without_measured(tmp_path / name) for name in ("without", "with"))):
        assert padded.pop("train_object_sizes") <= 2 < plain.pop("train_object_sizes")
        for key, value in plain.items():
            assert padded[key] == pytest.approx(value, abs=1e-6), key


# ---- refused


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--fast_resize", ["--fast_resize", "--dataset_file shapes"]),
        ("--pad_size 800 800", ["--pad_size 800 800", "--pad:"]),
        ("--pad --pad_size 0 800", ["--pad_size 0 800", "at least 1"]),
        ("--pad --pad_size 800", ["--pad_size", "2 arguments"]),
        ("--pad --pad_multiple 32", ["--pad", "--pad_multiple"]),
        ("--pad_multiple 0", ["--pad_multiple 0", "at least 1"]),
        ("--num_buckets -1", ["--num_buckets -1", "at least 0"]),
    ],
)
def test_mistakes_in_flags_are_refused_in_one_line(run, flags: str, words: list[str]) -> None:
    assert_refused(run(f"{TINY} {flags}"), *words)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_larger_than_the_canvas_is_refused_in_one_line(run, coco_folder: Path, workers: int) -> None:
    flags = f"--dataset_file coco --coco_path {coco_folder} --pad --pad_size 50 60 --num_workers {workers}"
    assert_refused(run(f"{TINY} {flags} --epochs 1"), "--pad_size 50 60", "image id", "--max_size")


@pytest.mark.slow
def test_a_cublas_workspace_that_is_not_deterministic_is_refused_in_one_line(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    assert_refused(run(f"{TINY} --deterministic"), "--deterministic", "CUBLAS_WORKSPACE_CONFIG")


# ---- the same twice


@pytest.mark.slow
def test_two_deterministic_runs_end_with_equal_bits(run, tmp_path: Path) -> None:
    """With workers, shuffling and dropout; another seed ends elsewhere."""
    folders = [tmp_path / name for name in ("first", "second", "other")]
    for folder, seed in zip(folders, (3, 3, 4)):
        flags = f"{TINY} --deterministic --num_workers 2 --dropout 0.1 --epochs 2 --seed {seed} --output_dir {folder}"
        assert run(flags)[0] == 0
        assert torch.are_deterministic_algorithms_enabled()
    first, second, other = map(weights, folders)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert rows_without_measured(folders[0]) == rows_without_measured(folders[1])
    assert not all(torch.equal(first[name], other[name]) for name in first)


class Recorder(TorchDispatchMode):
    """Notes the name of every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("flags", ["", "--backbone_norm batch", "--position_embedding learned --backbone mobilenet_v2"])
def test_no_operation_of_a_step_lacks_a_deterministic_kernel_on_cuda(flags: str) -> None:
    model, criterion, _ = build(flags)
    optimizer = building.build_optimizer(model, lr=1e-4, lr_backbone=1e-5, weight_decay=1e-4)
    with Recorder() as recorder:
        samples, targets = to_device(*batch(), torch.device("cpu"))
        criterion.total(compute_losses(model, criterion, samples, targets)[1]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    assert {"convolution_backward", "nll_loss_forward"} <= recorder.names
    assert recorder.names & NOT_DETERMINISTIC == set()


def test_the_recorder_finds_an_operation_without_a_deterministic_kernel() -> None:
    with Recorder() as recorder:
        logits = torch.zeros(2, 3, 4, requires_grad=True)
        torch.nn.functional.cross_entropy(logits, torch.zeros(2, 4, dtype=torch.int64)).backward()
    assert recorder.names & NOT_DETERMINISTIC == {"nll_loss2d_forward"}
