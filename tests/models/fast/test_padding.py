"""With --padding_invariant an image's detections do not depend on the batch or the canvas it is in."""

import argparse
import copy

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.torch_version import TorchVersion

import main
from models import build_model
from models.backbone import Backbone, FrozenBatchNorm2d, resize_mask
from models.fast.padding import PaddingEraser, mask_pyramid
from util.errors import UserError
from util.nested_tensor import NestedTensor, nested_tensor_from_tensor_list
from util.runs.checkpoint import load_model

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "narrow_resnet50")

SMALL = "--enc_layers 1 --dec_layers 2 --hidden_dim 32 --nheads 2 --dim_feedforward 32 --num_queries 6 --num_classes 4"
MODELS = [
    "--backbone resnet18",
    "--backbone resnet50",
    "--backbone resnet50 --dilation",
    "--backbone resnet18 --backbone_norm batch",
    "--backbone resnet18 --position_embedding learned",
    "--backbone resnet18 --pre_norm",
    "--backbone mobilenet_v2",
]
#: Heights and widths: odd, even, and one more or less than a multiple of the stride.
SIZES = ((97, 131), (64, 75), (33, 150))


def build(flags: str) -> nn.Module:
    """A small random model in evaluation mode, its norms far from the identity."""
    torch.manual_seed(0)
    parser = argparse.ArgumentParser(parents=[main.get_args_parser()])
    model = build_model(parser.parse_args(f"--device cpu --backbone_weights none {SMALL} {flags}".split()))[0]
    for norm in model.backbone.modules():
        if isinstance(norm, (FrozenBatchNorm2d, nn.BatchNorm2d)):
            with torch.no_grad():
                norm.weight.uniform_(0.4, 0.8)
                norm.bias.normal_(std=0.5)
            norm.running_mean.normal_(std=0.2)
            norm.running_var.uniform_(0.5, 1.5)
    return model.eval()


def sample_images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, h, w, generator=generator) for h, w in SIZES]


def on_canvas(images: list[Tensor], height: int, width: int) -> NestedTensor:
    """The batch of `images` on a canvas larger than any of them."""
    return NestedTensor(
        *(part[:-1] for part in nested_tensor_from_tensor_list([*images, torch.zeros(3, height, width)]).decompose())
    )


@torch.no_grad()
def differences(model: nn.Module) -> dict[str, float]:
    """The largest change of any logit or box, against each image alone: in a batch, on a larger canvas, with others."""
    images = sample_images()
    alone = [model([image]) for image in images]
    batches = {
        "batch": (nested_tensor_from_tensor_list(images), alone),
        "canvas": (on_canvas(images, 129, 203), alone),
        "others": (nested_tensor_from_tensor_list(images[1:]), alone[1:]),
    }
    return {name: distance(model(batch), expected) for name, (batch, expected) in batches.items()}


def distance(together: dict, alone: list[dict]) -> float:
    """The largest difference between the outputs of a batch and those of its images alone."""
    keys = ("pred_logits", "pred_boxes")
    assert all(together[key].isfinite().all() for key in keys)
    return max((together[k][i] - outputs[k][0]).abs().max().item() for i, outputs in enumerate(alone) for k in keys)


@pytest.mark.slow
@pytest.mark.parametrize("flags", MODELS)
def test_detections_are_the_same_alone_in_any_batch_and_on_any_canvas(flags: str) -> None:
    changes = differences(build(f"{flags} --padding_invariant"))
    assert max(changes.values()) < 1e-4, changes


@pytest.mark.slow
@pytest.mark.parametrize("flags", MODELS[:3])
def test_without_the_flag_they_move_as_in_the_original(flags: str) -> None:
    assert min(differences(build(flags)).values()) > 1e-2


def test_without_padding_the_flag_changes_nothing_and_weights_fit_both_ways() -> None:
    plain, invariant = build("--backbone resnet18"), build("--backbone resnet18 --padding_invariant")
    assert list(plain.state_dict()) == list(invariant.state_dict())
    nn.init.normal_(plain.class_embed.bias)
    load_model(invariant, {"model": plain.state_dict()}, "plain.pth")
    image = sample_images()[0]
    for key in ("pred_logits", "pred_boxes"):
        assert torch.equal(plain([image])[key], invariant([image])[key])
    load_model(plain, {"model": invariant.state_dict()}, "invariant.pth")


def test_the_mask_has_the_cells_that_an_image_has_alone() -> None:
    backbone = Backbone(weights="none", name="resnet18", return_interm_layers=True, padding_invariant=True).eval()
    with torch.no_grad():
        for height, width in ((1, 1), (31, 33), (64, 65), (95, 2)):
            alone = backbone(nested_tensor_from_tensor_list([torch.rand(3, height, width)]))
            padded = backbone(on_canvas([torch.rand(3, height, width)], 101, 70))
            for name, (features, mask) in ((n, f.decompose()) for n, f in alone.items()):
                h, w = features.shape[-2:]
                expected = torch.ones_like(padded[name].mask)
                expected[:, :h, :w] = False
                assert not mask.any() and torch.equal(padded[name].mask, expected)


def test_the_originals_mask_is_another_one() -> None:
    mask = torch.zeros(1, 37, 50, dtype=torch.bool)
    mask[:, 20:] = True
    ours = next(m for m in mask_pyramid(mask) if m.shape[-2:] == (3, 4))
    assert (~ours).any(2).sum() == 2 == -(-20 // 16)
    mask[:, 16:] = True  # one cell of 16 rows; the original takes row floor(37 / 3) = 12 for the second cell's
    ours = next(m for m in mask_pyramid(mask) if m.shape[-2:] == (3, 4))
    assert (~ours).any(2).sum() == 1 and (~resize_mask(mask, torch.Size((3, 4)))).any(2).sum() == 2


def test_gradients_too_are_those_of_the_images_alone() -> None:
    model = build("--backbone resnet18 --padding_invariant --dropout 0").train()
    images = sample_images()

    def gradients(batches: list[list[Tensor]]) -> list[Tensor]:
        model.zero_grad()
        sum(model(batch)["pred_boxes"].sum() for batch in batches).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    for together, alone in zip(gradients([images]), gradients([[image] for image in images])):
        torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


def test_what_is_written_in_the_padding_does_not_matter() -> None:
    model, batch = build("--backbone resnet18 --padding_invariant"), on_canvas(sample_images(), 129, 203)
    with torch.no_grad():
        zeros = model(batch)["pred_boxes"]
        batch.tensors.masked_fill_(batch.mask[:, None], 7)
        torch.testing.assert_close(model(batch)["pred_boxes"], zeros, rtol=0, atol=1e-6)


def test_a_copied_model_uses_its_own_masks() -> None:
    twin = copy.deepcopy(build("--backbone resnet18 --padding_invariant"))
    assert max(differences(twin).values()) < 1e-4


def test_nothing_is_read_from_the_device() -> None:
    with torch.device("meta"):  # where reading a value is an error
        backbone = Backbone(weights="none", name="resnet50", dilation=True, padding_invariant=True)
        batch = NestedTensor(torch.zeros(2, 3, 65, 97), torch.zeros(2, 65, 97, dtype=torch.bool))
        features = backbone(batch)["0"]
    assert features.tensors.shape[-2:] == features.mask.shape[-2:] == (5, 7)


@pytest.mark.slow
def test_one_compiled_graph_serves_every_canvas() -> None:
    backbone, counter = Backbone(weights="none", name="resnet18", padding_invariant=True).eval(), CompileCounter()

    @torch.compile(backend=counter, fullgraph=True, dynamic=True)
    def features(tensors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return backbone(NestedTensor(tensors, mask))["0"].decompose()

    with torch.no_grad():
        for height, width in ((129, 203), (200, 151), (97, 320)):
            batch = on_canvas(sample_images()[:1], height, width)
            for got, expected in zip(features(*batch.decompose()), backbone(batch)["0"].decompose()):
                assert torch.equal(got, expected)
    # PyTorch 2.11 and 2.12 take a second graph once a size has changed.
    assert counter.frame_count == (1 if TorchVersion(torch.__version__) >= "2.13" else 2)


def test_the_body_without_its_masks_is_an_error() -> None:
    backbone = Backbone(weights="none", name="resnet18", padding_invariant=True)
    backbone(nested_tensor_from_tensor_list(torch.rand(1, 3, 32, 32)))
    with pytest.raises(RuntimeError, match="call Backbone"):
        backbone.body(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 4, stride=4),
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.AvgPool2d(3, padding=1),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.MaxPool2d(2),
    ],
)
def test_networks_whose_sizes_depend_on_the_canvas_are_refused(layer: nn.Module) -> None:
    with pytest.raises(UserError, match="--padding_invariant does not work with --backbone odd: its layer 1 is"):
        PaddingEraser(nn.Sequential(nn.ReLU(), layer), flag="--backbone odd")
