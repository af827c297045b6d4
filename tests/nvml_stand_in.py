"""A stand-in for nvidia-ml-py: `monkeypatch.setitem(sys.modules, "pynvml", NvmlStandIn())` and there is a GPU."""

from types import SimpleNamespace

GIB = 1024**3


class NvmlStandIn:
    """The functions of the module pynvml that this project calls.

    Attributes:
        energy: millijoules so far; each reading finds `per_reading` more.
        asked: the names or numbers of the GPUs that were opened.
        opened: how often it is open.
        refuses: the name of a function that fails.
        reasons: what slows the clocks down, bits of NVML, one a reading; the last stays.
    """

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    class NVMLError(Exception):
        """As NVML's own."""

    def __init__(self, *, per_reading: int = 1000, refuses: str = "") -> None:
        self.energy = 5_000_000
        self.per_reading = per_reading
        self.refuses = refuses
        self.asked: list[int | str] = []
        self.opened = 0
        self.reasons = [0]
        self.temperatures = iter(range(60, 90))

    def nvmlInit(self) -> None:
        self._may("nvmlInit")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._may("nvmlDeviceGetHandleByIndex")
        self.asked.append(index)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.asked.append(uuid)
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:
        self._may("nvmlDeviceGetTotalEnergyConsumption")
        self.energy += self.per_reading
        return self.energy

    def nvmlDeviceGetPowerUsage(self, handle: object) -> int:
        return 250_000

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: object) -> int:
        return 300_000

    def nvmlDeviceGetName(self, handle: object) -> str:
        return "NVIDIA Stand-in"

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> SimpleNamespace:
        return SimpleNamespace(used=3 * GIB, total=40 * GIB)

    def nvmlDeviceGetUtilizationRates(self, handle: object) -> SimpleNamespace:
        return SimpleNamespace(gpu=87, memory=40)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: object) -> int:
        self._may("nvmlDeviceGetCurrentClocksEventReasons")
        return self.reasons.pop(0) if len(self.reasons) > 1 else self.reasons[0]

    def nvmlDeviceGetClockInfo(self, handle: object, kind: int) -> int:
        return {self.NVML_CLOCK_SM: 1410, self.NVML_CLOCK_MEM: 1215}[kind]

    def nvmlDeviceGetTemperature(self, handle: object, kind: int) -> int:
        return next(self.temperatures)

    def _may(self, question: str) -> None:
        if self.refuses == question:
            raise self.NVMLError("Not Supported")
