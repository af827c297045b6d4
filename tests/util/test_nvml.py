"""NVML: which GPU is asked, in which units it answers, and the one line where it is not there."""

import sys

import pytest
import torch

from tests.nvml_stand_in import GIB, NvmlStandIn
from util.errors import UserError
from util.nvml import GpuSample, cuda_name, open_gpu


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> NvmlStandIn:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    stand_in = NvmlStandIn()
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    return stand_in


def test_a_gpu_is_opened_read_in_si_units_and_closed(nvml: NvmlStandIn) -> None:
    with open_gpu(1, needed_by="--energy") as gpu:
        assert nvml.opened == 1 and nvml.asked == [1]
        assert gpu.energy_mj() == 5_001_000
        assert (gpu.power_watts(), gpu.power_limit_watts(), gpu.name()) == (250.0, 300.0, "NVIDIA Stand-in")
        assert gpu.sample() == GpuSample(utilisation=87, memory_used=3 * GIB, memory_total=40 * GIB, power=250.0)
    assert nvml.opened == 0


@pytest.mark.parametrize(
    ("visible", "index", "name"), [(None, 2, 2), ("3,1", 0, 3), (" 3, 1 ", 1, 1), ("GPU-ab,GPU-cd", 1, "GPU-cd")]
)
def test_cudas_number_is_that_of_the_visible_gpus(
    nvml: NvmlStandIn, visible: str | None, index: int, name: int | str
) -> None:
    assert cuda_name(index, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == name


def test_torch_knows_the_gpu_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its UUID, for CUDA may count the GPUs in another order than NVML."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: type("Properties", (), {"uuid": "ab-12"}))
    assert cuda_name(0, {"CUDA_VISIBLE_DEVICES": "7"}) == "GPU-ab-12"


@pytest.mark.parametrize("refused", ["nvmlInit", "nvmlDeviceGetHandleByIndex"])
def test_without_driver_or_gpu_one_line_names_the_flag(nvml: NvmlStandIn, refused: str) -> None:
    nvml.refuses = refused
    with pytest.raises(UserError, match=r"^--energy: .*Not Supported"):
        open_gpu(needed_by="--energy")
    assert nvml.opened == 0


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(UserError, match="^--log_gpu: nvidia-ml-py is missing: pip install nvidia-ml-py"):
        open_gpu(needed_by="--log_gpu")


def test_a_gpu_that_does_not_count_says_what_it_lacks(nvml: NvmlStandIn) -> None:
    nvml.refuses = "nvmlDeviceGetTotalEnergyConsumption"
    with open_gpu(needed_by="--energy") as gpu, pytest.raises(UserError, match="TotalEnergyConsumption.*Not Supported"):
        gpu.energy_mj()


def test_the_real_package_has_every_function_that_is_called() -> None:
    pynvml = pytest.importorskip("pynvml", reason="no nvidia-ml-py: pip install -r requirements-dev.txt")
    called = [name for name in vars(NvmlStandIn) if name.startswith(("nvml", "NVML"))]
    assert [name for name in called if not hasattr(pynvml, name)] == []
