"""Statistics of attention maps, against values computed by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.attention.sparseness import gini
from inference.attention.statistics import (
    AttentionStatistics,
    describe_statistics,
    format_statistics,
    inside_boxes,
    measure_attention,
)
from inference.attention.statistics_plot import plot_statistics
from inference.loading import load_trained
from models.attention import AttentionMaps
from models.matcher import HungarianMatcher
from tests.inference.checkpoints import write_checkpoint
from util.nested_tensor import nested_tensor_from_tensor_list

pytestmark = pytest.mark.usefixtures("narrow_resnet18")


def test_gini_of_equal_weights_is_0_and_of_one_weight_almost_1() -> None:
    maps = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])
    assert gini(maps).tolist() == pytest.approx([0, 1 - 1 / 4, 0.5])


def test_cells_lie_in_a_box_by_their_area() -> None:
    # 2 x 2 cells of 10 pixels; the box covers half of the upper left one and a quarter of the one below.
    part = inside_boxes((2, 2), (10.0, 10.0), torch.tensor([[0.0, 0.0, 5.0, 15.0]]))
    assert part.tolist() == [[[0.5, 0.0], [0.25, 0.0]]]


def test_padding_counts_as_nothing_and_shares_are_by_the_size_of_the_original() -> None:
    # One layer and head, two queries; an image of 10 x 20 pixels in a batch of 20 x 20: the lower cells are padding.
    decoder = torch.tensor([[[[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]]])
    padding = torch.tensor([[[False, False], [True, True]]])
    target = {
        "boxes": torch.tensor([[0.25, 0.5, 0.5, 1.0]]),  # the left half
        "size": torch.tensor([10, 20]),
        "orig_size": torch.tensor([100, 200]),  # the object has 100 x 100 pixels there
    }
    statistics = AttentionStatistics()
    match = (torch.tensor([1]), torch.tensor([0]))
    statistics.add(AttentionMaps(decoder=[decoder], padding=padding), [target], [match], (20, 20))
    found = statistics.summary()
    assert found["zeros"] == [[0.25]], "one of two cells, of one of two queries"
    assert found["gini"][0][0] == pytest.approx(2 * (0.5 * 2 + 0.5 * 3 + 4) / (4 * 2) - 5 / 4)
    assert found["objects"] == {"small": 0, "medium": 0, "large": 1} and found["inside_box"] == {"large": [[0.5]]}
    assert format_statistics(found).splitlines()[-1] == "| 1 | 25.0 % | 25.0 % | 0.375 | 50.0 % | 25 |"


@pytest.mark.slow
def test_self_attention_is_measured_without_padding_and_of_all_processes_together(tmp_path: Path) -> None:
    """With two keys left to a query, all other weights are zeros: of 4 or 2 cells, and of 6 queries."""
    sparse = {"encoder_attention": "topk", "decoder_self_attention": "topk", "topk": 2}
    model = load_trained(
        write_checkpoint(tmp_path / "a.pth", **sparse), device=torch.device("cpu"), padding_invariant=True
    ).model
    images = [torch.randn(3, 64, 64), torch.randn(3, 64, 32)]
    sizes = [torch.tensor(image.shape[1:]) for image in images]
    box = {"boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]]), "labels": torch.tensor([1])}
    targets = [box | {"size": size, "orig_size": size} for size in sizes]

    def measure(*numbers: int, count: int | None = None) -> AttentionStatistics:
        chosen = nested_tensor_from_tensor_list([images[n] for n in numbers]), [targets[n] for n in numbers]
        same = {"to_device": lambda *batch: batch, "images": len(numbers) if count is None else count}
        return measure_attention(model, HungarianMatcher(), [chosen], **same)

    whole = measure(0, 1)
    found = whole.summary()
    assert found["encoder"]["zeros"] == [[pytest.approx((2 / 4 + 0) / 2)] * 2], "two images, of 2 x 2 and 2 x 1 cells"
    assert found["decoder_self"]["zeros"] == [[pytest.approx(4 / 6)] * 2] * 2
    assert found["zeros"] == [[0, 0]] * 2 and found["images"] == 2
    # The second process had to load the first image again, which does not count, and a third process had none.
    parts = measure(0)
    parts.merge([part.state() for part in (measure(0), measure(1, 0, count=1), measure(0, count=0))])
    joined = parts.summary()
    assert joined["objects"] == found["objects"] and joined["images"] == 2
    for kind in ("encoder", "decoder_self"):
        for name in ("zeros", "gini"):
            assert np.array(joined[kind][name]) == pytest.approx(np.array(found[kind][name]), abs=1e-5)
    assert "Encoder, self-attention" in describe_statistics(found)
    assert not model.transformer.decoder.layers[0].self_attn._forward_pre_hooks, "the model is as before"
    plot_statistics(found, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
