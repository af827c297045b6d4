"""The cost card: a training counted before it begins, on this CPU and on a GPU of the table."""

from collections.abc import Callable

import pytest

from tests.helpers import TINY, Run, assert_refused
from training.cost_card import rates
from training.cost_card.rates import find_gpu, gpu_rates
from util.errors import UserError

pytestmark = pytest.mark.usefixtures("narrow_resnet18")


@pytest.mark.parametrize(
    ("typed", "name"),
    [("a100-sxm4-80gb", "A100 SXM 80 GB"), ("H100 SXM", "H100 SXM5 80 GB"), ("h200", "H200 SXM"), ("l4", "L4")],
)
def test_gpus_are_found_by_names_as_they_are_typed(typed: str, name: str) -> None:
    row = find_gpu(typed)
    assert row["name"] == name
    found = gpu_rates(row)
    stated = row["stated"]["tensor_bf16"] * 1e12
    assert found.flops["tensor_bf16"] == pytest.approx(stated, rel=0.03) and not found.measured


def test_an_unknown_gpu_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UserError, match="V100 PCIe"):
        find_gpu("voodoo")


@pytest.mark.slow
@pytest.mark.parametrize("gpu", ["", "h100 sxm"])
def test_the_card_says_costs_and_ends(run: Run, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast: Callable = lambda work, repeats=1: 1e-3
    monkeypatch.setattr(rates, "fastest", fast)
    code, out, _ = run(TINY, "--cost_card", *([gpu] if gpu else []))
    assert code == 0 and "Start training" not in out
    for word in (
        "parameters",
        "GFLOP",
        "gradients",
        "optimizer",
        "activations",
        "images a second",
        "MFU",
        "checkpoints",
    ):
        assert word in out, out
    assert ("nobody has measured" in out) is bool(gpu) and ("measured just now" in out) is not bool(gpu)


def test_a_card_of_an_evaluation_is_refused(run: Run) -> None:
    assert_refused(run(TINY, "--eval", "--cost_card"), "--cost_card", "--eval")
