"""Maps collected from a model: the right image of a batch, the right queries, no padding; packed for a page."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inference.attention.maps import HeadMeans, collect, look_inside
from inference.attention.packing import blocks_from, blocks_to, pack, pack_encoder, pack_image, unpack
from inference.detector import Detector
from models.attention import AttentionMaps
from tests.helpers import build
from tests.inference.checkpoints import NAMES, write_checkpoint
from util.nested_tensor import nested_tensor_from_tensor_list

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

NOISE = np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)


def test_a_smaller_image_of_a_batch_is_collected_without_its_padding() -> None:
    model = build("--padding_invariant")[0].eval()
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *size, generator=generator) for size in ((96, 128), (64, 90))]
    image, both, alone = Image.new("RGB", (180, 128)), AttentionMaps(), AttentionMaps(encoder=HeadMeans())
    with torch.no_grad():
        batched = model(nested_tensor_from_tensor_list(images), attention=both)
        single = model(images[1][None], attention=alone)
    more = {"image": image, "seen": (64, 90), "queries": [3, 1], "names": NAMES}
    got, expected = collect(batched, both, index=1, **more), collect(single, alone, **more)
    assert got.cells == (2, 3) and got.extent == (1.0, 96 / 90)
    assert got.encoder.shape == (1, 2, 3, 2, 3) and got.decoder.shape == (2, 4, 2, 2, 3)
    assert got.queries.tolist() == [3, 1] and got.found
    for name in ("encoder", "decoder", "boxes", "probabilities"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), atol=1e-5)
    np.testing.assert_allclose(got.encoder.sum((-1, -2)), 1, atol=1e-5)
    # The layers' own numbers, the earlier ones from aux_outputs.
    np.testing.assert_allclose(got.decoder[0, 2, 1], both.decoder[0][1, 2, 1].view(3, 4)[:2, :3])
    first = batched["aux_outputs"][0]["pred_logits"][1, 3].softmax(-1)
    np.testing.assert_allclose(got.probabilities[0, 0], first)


def test_the_last_layer_is_what_the_detector_answers(tmp_path: Path) -> None:
    detector = Detector(
        write_checkpoint(tmp_path / "model.pth", names=NAMES, dec_layers=3), device="cpu", threshold=0.3
    )
    found, inside = detector(NOISE), look_inside(detector, NOISE)
    assert len(found) and inside.found and inside.queries.tolist() == found.queries.tolist()
    np.testing.assert_allclose(inside.boxes[-1] * [60, 90, 60, 90], found.boxes, atol=1e-3)
    np.testing.assert_allclose(inside.scores(), found.scores, atol=1e-5)
    assert [inside.name(label) for label in inside.labels()] == found.names
    assert inside.boxes.shape == (3, len(found), 4) and inside.name(4) == "no object"


def test_the_surest_queries_where_nothing_is_detected(tmp_path: Path) -> None:
    detector = Detector(
        write_checkpoint(tmp_path / "model.pth", enc_layers=0, num_queries=10), device="cpu", threshold=0.999
    )
    inside = look_inside(detector, NOISE)
    assert not inside.found and len(inside.queries) == 8 and inside.encoder.shape[0] == 0
    assert (np.diff(inside.scores()) <= 0).all()
    one = look_inside(detector, NOISE, queries=[4])
    assert one.found and one.queries.tolist() == [4]


# ---- as text for a page


def maps(*shape: int) -> np.ndarray:
    weights = np.random.default_rng(0).exponential(size=shape).astype(np.float32) ** 2
    return weights / weights.sum(-1, keepdims=True)


def test_packed_weights_come_back_within_a_step() -> None:
    weights = maps(40, 30)
    weights[3] = 0
    packed = pack(weights, 10_000)
    assert packed and packed.steps == 255
    error = np.abs(unpack(packed, weights.shape) - weights)
    assert (error <= weights.max(-1, keepdims=True) / 255).all()


def test_coarser_steps_where_the_budget_is_small() -> None:
    packed = pack(maps(400, 300), 80_000)
    assert packed and packed.steps == 15 and len(packed.text) <= 80_000
    assert pack(maps(400, 300), 7_000) is None


def test_blocks_keep_what_maps_add_up_to() -> None:
    encoder = maps(2 * 5 * 7, 35).reshape(2, 5, 7, 5, 7)
    joined = blocks_to(blocks_from(encoder, 2), 2)
    assert joined.shape == (2, 3, 4, 3, 4)
    np.testing.assert_allclose(joined.sum((-1, -2)), 1, rtol=1e-5)
    np.testing.assert_allclose(joined[1, 0, 1, 2, 0], encoder[1, :2, 2:4, 4:, :2].mean((0, 1)).sum(), rtol=1e-5)
    np.testing.assert_allclose(joined[1, 2, 3, 0, 0], encoder[1, 4, 6, :2, :2].sum(), rtol=1e-5)


def test_an_encoder_too_large_for_its_budget_is_joined_in_blocks() -> None:
    packed, side_from, side_to = pack_encoder(maps(12 * 12, 144).reshape(1, 12, 12, 12, 12), 3_700)
    assert (side_from, side_to) == (2, 2) and len(packed.text) <= 3_700
    assert pack_encoder(np.zeros((0, 3, 4, 3, 4), np.float32), 100)[1:] == (1, 1)


def test_an_image_of_any_size_fits_its_budget() -> None:
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8))
    assert len(pack_image(large, 60_000)) <= 60_000
    assert pack_image(Image.new("RGB", (20, 10)), 60_000).startswith("data:image/jpeg;base64,")
