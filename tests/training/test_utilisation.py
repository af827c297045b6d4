"""Costs of a step, by shapes alone, and the share of the device's peak in the log."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers import TINY, Run, rows
from training import utilisation
from training.utilisation import Peak, Utilisation, gpu_peak
from util.profiling.shape_products import ProductCounter, shape_copy

META = "meta"


def test_products_count_for_every_operand_that_needs_a_gradient() -> None:
    x, frozen = torch.empty(2, 5, 8, device=META), torch.empty(3, 8, device=META)
    weight = torch.empty(3, 8, device=META, requires_grad=True)
    with ProductCounter() as counter:
        assert F.linear(x, frozen).shape == (2, 5, 3)  # forward alone: 2 x 10 x 3 x 8
        y = F.linear(x, weight)  # and once more for the weight
        F.linear(y, torch.empty(4, 3, device=META))  # the gradient passes on: 2 x 10 x 4 x 3, twice
    assert counter.flops == 480 + 2 * 480 + 2 * 240
    image = torch.empty(2, 3, 8, 8, device=META)
    with ProductCounter() as counter:
        y = F.conv2d(image, torch.empty(4, 3, 3, 3, device=META, requires_grad=True), stride=2, padding=1)
        F.conv2d(y, torch.empty(4, 1, 3, 3, device=META), groups=4)  # 2 x 2 places of 4 x 4 -> 2 x 2
    assert counter.flops == 2 * (2 * 16) * 108 * 2 + 2 * (2 * 4) * 36 * 2
    q, k = torch.empty(1, 2, 5, 4, device=META, requires_grad=True), torch.empty(1, 2, 7, 4, device=META)
    with ProductCounter() as counter:
        F.scaled_dot_product_attention(q, k, k)  # q k^T twice, p v twice: p needs a gradient
        torch.einsum("bhqc,bhkc->bhqk", k, k)
        q @ k.transpose(-2, -1)
    assert counter.flops == 2 * 70 * 4 * 4 + 2 * 98 * 4 + 2 * 70 * 4 * 2


def test_a_copy_of_shapes_has_neither_weights_nor_hooks() -> None:
    model, seen = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(torch.bfloat16), []
    model[0].weight.requires_grad_(False)
    model[0].register_forward_hook(lambda *args: seen.append(1))
    copied = shape_copy(model)
    assert {t.device.type for t in copied.state_dict().values()} == {META} and model[0].weight.device.type == "cpu"
    assert [p.requires_grad for p in copied.parameters()] == [False, True, True, True]
    copied(torch.empty(4, 3, device=META))
    assert not seen


def counted(flops: Any) -> Utilisation:
    """Return a Utilisation whose batches cost what `flops` says."""
    found: Any = object.__new__(Utilisation)
    found.flops = flops
    return found


def test_many_shapes_are_counted_by_three_of_them() -> None:
    asked = []

    def flops(shape: tuple[int, int, int]) -> int:
        asked.append(shape)
        images, pixels = shape[0], shape[1] * shape[2]
        return images * (7 + 3 * pixels + pixels**2)

    few = {(2, 64, 64): 3, (1, 64, 32): 1}
    assert counted(flops).flops_of(few) == sum(count * flops(shape) for shape, count in few.items())
    many = {(2, 32 * i, 64): i for i in range(1, 9)} | {(1, 64, 96): 5}
    whole = sum(count * flops(shape) for shape, count in many.items())
    asked.clear()
    assert counted(flops).flops_of(many) == pytest.approx(whole, rel=1e-9) and len(asked) == 3
    assert counted(lambda shape: None).flops_of(many) is None


def test_a_gpu_has_the_peak_of_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    flags = {"bf16": False, "amp": "bf16"}
    peak = gpu_peak(SimpleNamespace(**flags), torch.device("cuda"))  # type: ignore[arg-type]
    assert peak is not None and peak.flops == pytest.approx(989e12, rel=0.03) and "tensor_bf16" in peak.name
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Voodoo 2")
    assert gpu_peak(SimpleNamespace(**flags), torch.device("cuda")) is None  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_log_has_the_share_of_the_peak(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = f"{TINY} --epochs 2 --train_only --accumulate 2 --output_dir {tmp_path}"
    monkeypatch.setattr(Utilisation, "peak", lambda self: Peak("a wall", 1e12))
    code, out, _ = run(flags)
    assert code == 0 and "a step: 2 x 4 images of 64 x 64, about 7.0 GFLOP; 11,192,986 parameters" in out
    for row in rows(tmp_path):
        assert row["train_mfu"] == pytest.approx(6.958e9 / row["train_step_time"] / 1e12, rel=1e-3)


@pytest.mark.slow
def test_what_is_not_known_is_left_out(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> int:
        raise NotImplementedError("no shapes of this operator\nand a page of hints")

    monkeypatch.setattr(utilisation, "batch_flops", fail)
    monkeypatch.setattr(utilisation, "_known", {})
    code, out, _ = run(f"{TINY} --epochs 1 --train_only --output_dir {tmp_path}")
    assert code == 0 and "FLOPs not known (NotImplementedError: no shapes of this operator)" in out
    assert "train_mfu" not in rows(tmp_path)[0]
    monkeypatch.setattr(utilisation, "get_world_size", lambda: 2)
    place = SimpleNamespace(device=torch.device("cpu"))
    shared: Any = object.__new__(Utilisation)
    shared.run = SimpleNamespace(cfg=None, place=place)
    assert shared.peak() is None, "processes that share a CPU's cores have no peak each"
