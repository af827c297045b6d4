"""Training and evaluation on a GPU that is not there: every tensor in its place, one read, and kernels for all."""

import argparse
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.torch_version import TorchVersion

import main
from engine import compute_losses, to_device
from inference.export import wrapper
from inference.export.wrapper import Canvas, TensorDetector
from models import build_model, panoptic, postprocess
from tests.helpers import SMALL
from training.fake_step import count_step, fake_batch, fake_training
from training.model_flops import batch_flops
from util.flags import FlagParser
from util.profiling.fake_device import fake_device
from util.profiling.step_counter import StepCounter

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

CUDA = torch.device("cuda")
SIZE = (64, 96)


def parse(flags: str) -> argparse.Namespace:
    words = f"{SMALL} --dropout 0.1 --dec_layers 2 {flags}".split()
    return FlagParser(parents=[main.get_args_parser()]).parse_args(words)


def without_cuda_kernel(overloads: set[str]) -> list[str]:
    """Operators that a GPU could not run; none where this PyTorch is without CUDA and does not know."""
    has_kernel = torch._C._dispatch_has_computed_kernel_for_dispatch_key
    return [name for name in overloads if torch.backends.cuda.is_built() and not has_kernel(name, "CUDA")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--masks --mask_chunk 1",
        "--queries encoder --focal --denoising 3 --local_attention --feature_map c4",
        "--queries dab --groups 2 --backbone_norm batch --accumulate 2 --amp bf16",
        "--encoder_attention entmax15 --cross_attention topk --decoder_self_attention alpha_entmax",
        "--position_embedding learned --no_aux_loss --grad_checkpoint",
    ],
)
def test_a_training_step_has_all_in_place(flags: str) -> None:
    args = parse(flags)
    counts = count_step(args, CUDA, SIZE)
    assert counts.reads == args.accumulate, "the matcher's copy to the host is the only read of a batch"
    assert without_cuda_kernel(counts.overloads) == []
    assert "cumprod" not in counts.operators, "the gradient of prod makes the host wait"
    assert {"forward", "loss", "backward", "optimizer_step"} <= counts.sections.keys()
    assert counts.saved > 0 and len(counts.optimizer) in (2, 3)
    model, criterion, _ = build_model(args)
    by_shapes = args.accumulate * batch_flops(model, criterion, (args.batch_size, *SIZE), objects=7)
    # All but what is computed again for the backward pass: layers, and a fused attention's scores.
    assert by_shapes == pytest.approx(counts.products, rel=0.4 if args.grad_checkpoint else 0.02)


@pytest.mark.slow
def test_evaluation_and_postprocessing_have_all_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses, boxes, masks and panoptic images; what looks at numbers there is answered as if query 0 had found all."""
    sizes = np.array([SIZE, SIZE])  # of the host, with numbers
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(postprocess, "canvas_of", lambda outputs: SIZE)
    choice = lambda self, logits: (seen.append(logits), (torch.tensor([0], device=logits.device), [1]))[1]
    monkeypatch.setattr(panoptic.PostProcessPanoptic, "_choose", choice)
    winners = lambda masks: (seen.append(masks), np.zeros(masks.shape[1:], int))[1]
    monkeypatch.setattr(panoptic, "_surest", winners)
    args = parse("--masks --padding_invariant --dataset_file coco_panoptic")
    with fake_training(args, CUDA) as parts, torch.no_grad(), StepCounter() as counter:
        parts.model.eval()
        samples, targets = to_device(*fake_batch(2, SIZE, objects=3, masks=True), CUDA)
        outputs, losses = compute_losses(parts.model, parts.criterion, samples, targets, context=parts.context)
        boxes = parts.postprocessors["bbox"](outputs, torch.tensor([SIZE, SIZE]).to(CUDA))
        reads = counter.counts.reads
        masks = [r["masks"] for r in parts.postprocessors["segm"](list(map(dict, boxes)), outputs, sizes, sizes)]
        images = parts.postprocessors["panoptic"](outputs, [SIZE] * 2, [SIZE] * 2)
    on_device = [*losses.values(), *(value for result in boxes for value in result.values()), *seen]
    assert {tensor.device.type for tensor in on_device} == {"cuda"} and {m.device.type for m in masks} == {"cpu"}
    assert reads == 1 and counter.counts.reads == 3, "the matcher's, and the masks of each image"
    assert [image["segments_info"][0]["area"] for image in images] == [SIZE[0] * SIZE[1]] * 2
    assert without_cuda_kernel(counter.counts.overloads) == []


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["--masks", "--queries encoder --local_attention --feature_map c4"])
def test_a_graph_for_export_leaves_nothing_behind_on_the_host(flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is on the host, and nobody else's: fake tensors neither move nor are copied.
    monkeypatch.setattr(nn.Module, "cpu", lambda self: self)
    monkeypatch.setattr(wrapper, "copy", SimpleNamespace(deepcopy=lambda model: model))
    args = parse(flags)
    with fake_device(CUDA), torch.no_grad(), StepCounter() as counter:
        exported = TensorDetector(build_model(args)[0]).to(CUDA)
        images, mask = (tensor.to(CUDA) for tensor in Canvas().example())
        found = exported(images, mask)
    assert {tensor.device.type for tensor in found} == {"cuda"} and counter.counts.reads == 0


@pytest.mark.slow
def test_a_misplaced_tensor_is_found() -> None:
    with fake_training(parse("--no_aux_loss"), CUDA) as parts:
        samples, targets = to_device(*fake_batch(1, SIZE, objects=1, masks=False), CUDA)
        targets[0]["boxes"] = targets[0]["boxes"].cpu()
        words = "same device" if TorchVersion(torch.__version__) >= "2.13" else "two different devices"
        with pytest.raises(RuntimeError, match=words):
            compute_losses(parts.model, parts.criterion, samples, targets)


@pytest.mark.slow
def test_a_step_without_numbers_has_the_operators_of_a_real_one() -> None:
    """On the CPU, where both can be had: FLOPs of products, and calls of convolutions and products by name."""
    args = parse("")
    fake = count_step(args, torch.device("cpu"), SIZE, objects=2)
    model, criterion, _ = build_model(args)
    model.train()
    samples, targets = fake_batch(args.batch_size, SIZE, objects=2, masks=False)
    state = torch.get_rng_state()
    with StepCounter() as counter:
        _, losses = compute_losses(model, criterion, *to_device(samples, targets, torch.device("cpu")))
        criterion.total(losses).backward()
    assert counter.counts.products == fake.products
    for name in ("convolution", "convolution_backward", "addmm", "mm", "bmm", "baddbmm", "_softmax", "bernoulli"):
        assert counter.counts.operators[name] == fake.operators[name], name
    torch.set_rng_state(state)
    count_step(args, torch.device("cpu"), SIZE, objects=2)
    assert torch.equal(torch.get_rng_state(), state), "no random number is drawn"
