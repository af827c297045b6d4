"""One table of devices; Gaudi's row with a stand-in for Intel's package that counts marks."""

import sys
from types import SimpleNamespace

import pytest
import torch

from engine import train_one_epoch
from tests.helpers import batch, build
from util.dist.accelerator import TABLE, accelerator
from util.dist.memory import peak_memory
from util.dist.device import pick_device
from util.errors import UserError

CPU = torch.device("cpu")


class Habana:
    """Stands in for `habana_frameworks.torch.hpu` and `.core`."""

    def __init__(self) -> None:
        self.marks = self.waits = 0

    def is_available(self) -> bool:
        return True

    def mark_step(self) -> None:
        self.marks += 1

    def synchronize(self) -> None:
        self.waits += 1

    def max_memory_allocated(self) -> int:
        return 3 * 2**20


@pytest.fixture
def habana(monkeypatch: pytest.MonkeyPatch) -> Habana:
    stand_in = Habana()
    modules = {"": SimpleNamespace(__path__=[]), ".torch": SimpleNamespace(__path__=[])}
    modules |= {".torch.hpu": stand_in, ".torch.core": stand_in}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, f"habana_frameworks{name}", module)
    return stand_in


def test_gaudi_is_a_device_with_its_package(habana: Habana) -> None:
    device = pick_device("hpu")
    assert device.type == "hpu" and peak_memory(device) == 3
    accelerator(device).synchronise(device)
    assert habana.waits == 1


def test_without_its_package_gaudi_is_refused_in_a_line() -> None:
    with pytest.raises(UserError, match="--device hpu needs Intel's package habana_frameworks") as error:
        pick_device("hpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("lazy", "marks"), [("1", 6), ("0", 0)])
def test_every_step_is_marked_twice_in_lazy_mode(
    habana: Habana, monkeypatch: pytest.MonkeyPatch, lazy: str, marks: int
) -> None:
    """Behind the backward pass and behind the optimizer; on the CPU, for its operations are not here."""
    monkeypatch.setenv("PT_HPU_LAZY_MODE", lazy)
    monkeypatch.setitem(TABLE, "cpu", TABLE["hpu"])
    model, criterion, _ = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    train_one_epoch(model, criterion, [batch()] * 3, optimizer, CPU, 0)
    assert habana.marks == marks


def test_a_device_that_is_not_here_gives_way_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    assert pick_device("xpu") == CPU and "computing on the CPU" in capsys.readouterr().out
    assert peak_memory(CPU) > 1
