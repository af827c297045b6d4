"""One table of devices; Gaudi's row with a stand-in for Intel's package that counts marks."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine import train_one_epoch
from tests.helpers import batch, build
from util.dist.accelerator import TABLE, Accelerator, accelerator
from util.dist.memory import peak_memory
from util.dist.device import pick_device
from util.errors import UserError
from util.runs.random_state import random_state, set_random_state

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[3]
#: Whoever asks for the kind of a device by itself.
KIND = re.compile(r"\.type\s*(?:==|!=|in\b|not in\b)|\.is_cuda\b|\bis_available\(\)|device\s*[=!]=\s*[\"']")
#: Code inside the model that computes in another way on the CPU, whose fused kernels and last bits are others, and that
#: compilers trace: there a tensor's own device is asked. Then the table, who checks a name against it, and the
#: is_available of torch.distributed and of MKL, which are no devices.
KERNELS = {
    *("attention.py", "backbone.py", "dropout.py", "entmax.py", "onednn.py", "pointwise.py", "precision.py"),
    *("relu_dropout.py", "transformer.py"),
}
BY_ITSELF = KERNELS | {"accelerator.py", "device.py", "distributed.py", "products.py"}


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


def test_nobody_but_the_table_asks_for_the_kind_of_a_device() -> None:
    """Benchmarks run beside a checkout of the original and the rooflines stand alone: neither has the table."""
    packages = ("flags", "training", "inference", "models", "datasets", "util", "d2")
    files = [*ROOT.glob("*.py"), *(file for package in packages for file in (ROOT / package).rglob("*.py"))]
    asking = {file.name for file in files if any(KIND.search(line) for line in file.read_text().splitlines())}
    assert asking == BY_ITSELF, "give the table a column, or say here why it cannot tell"


def test_the_generator_of_a_device_is_saved_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Accelerator(
        available=lambda: True,
        random_state=lambda device: torch.tensor([1, 2], dtype=torch.uint8),
        set_random_state=lambda state, device: restored.append(state.tolist()),
    )
    restored: list[list[int]] = []
    monkeypatch.setitem(TABLE, "xpu", row)
    set_random_state(random_state(torch.device("xpu")), torch.device("xpu"))
    assert restored == [[1, 2]] and random_state(CPU)[3] is None
