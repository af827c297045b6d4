"""Jobs of a sweep: the parameters and their values, the two configurations, and one job for each value and seed."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import RoofError, atomic_file

Flags = dict[str, str]

#: The program that a job runs: the project's, four folders up.
MAIN = Path(__file__).resolve().parents[4] / "main.py"

#: Configurations of hgp_detr (R18, two layers on each side): a small one, and the best value of each of its sweeps.
CONFIGURATIONS: dict[str, Flags] = {
    "basic": {"dim_feedforward": "512", "hidden_dim": "64", "nheads": "4", "num_queries": "20"},
    "optimized": {"dim_feedforward": "2048", "hidden_dim": "256", "nheads": "32", "num_queries": "5"},
}
_COMMON = {"backbone": "resnet18", "enc_layers": "2", "dec_layers": "2", "batch_size": "2", "precision": "fp32"}
#: Values that hgp_detr's scripts swept; precision is ours.
VALUES: dict[str, tuple[str, ...]] = {
    "batch_size": ("2", "4", "8", "16", "32", "64"),
    "dim_feedforward": ("512", "1024", "2048", "4096"),
    "hidden_dim": ("64", "128", "256", "512"),
    "nheads": ("4", "8", "16", "32"),
    "num_queries": ("20", "50", "100", "200"),
    "precision": ("fp32", "tf32", "bf16", "fp16"),
}
_PRECISION = {"fp32": [], "tf32": ["--tf32"], "bf16": ["--amp", "bf16"], "fp16": ["--amp", "fp16"]}
#: The sweep that compares the configurations as they are.
CONFIGURATION = "configuration"
_OURS = ("seed", "output_dir", "resume")


@dataclass(frozen=True)
class Job:
    """One training run. changes: parameters whose value is not the configuration's; extra: main.py's other flags."""

    root: Path
    configuration: str
    changes: Flags = field(hash=False)
    seed: int
    extra: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The run's name, of its parameters only, so that sweeps share the runs they have in common."""
        changed = "".join(f"-{name}={value}" for name, value in self.changes.items())
        return f"{self.configuration}{changed}/seed{self.seed}"

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self.root / self.name

    @property
    def batch_size(self) -> int:
        """Images of a step and process."""
        # Behind -- the user may set it, too; the last one counts, as argparse has it.
        given = [after for flag, after in zip(self.extra, self.extra[1:]) if flag == "--batch_size"]
        return int((given or [(_COMMON | self.changes)["batch_size"]])[-1])

    def flags(self) -> list[str]:
        """Return main.py's flags."""
        values = _COMMON | CONFIGURATIONS[self.configuration] | self.changes
        precision = _PRECISION[values.pop("precision")]
        named = [word for name, value in values.items() for word in (f"--{name}", value)]
        # Last, so that nothing in `extra` takes their place. With --resume auto the same command starts a run and goes
        # on with it.
        own = ["--seed", str(self.seed), "--output_dir", str(self.folder), "--resume", "auto"]
        return [*named, *precision, *self.extra, *own]

    def command(self, gpus: int = 1) -> list[str]:
        """Return the command that trains; on several GPUs torchrun starts a process for each."""
        # --standalone takes a free port: several jobs run on one machine.
        many = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={gpus}"] if gpus > 1 else []
        return [sys.executable, *many, str(MAIN), *self.flags()]

    @property
    def finished(self) -> bool:
        """True once the run has ended well."""
        return (self.folder / "finished.json").is_file()

    def state(self) -> str:
        """Return finished, started or new. Raises RoofError where the folder holds a run with other flags."""
        record = self.record()
        # A folder's name has the swept parameters only; two sweeps with other flags behind -- would mix their epochs in
        # one log.
        if record and record["flags"] != self.flags():
            raise RoofError(f"{self.folder}: holds a run with other flags; choose another --output_dir, or remove it")
        return "finished" if self.finished else "started" if (self.folder / "log.txt").is_file() else "new"

    def record(self) -> dict:
        """Return what `write_record` wrote, nothing where there is no readable one."""
        try:
            return json.loads((self.folder / "job.json").read_text())
        except (OSError, ValueError):
            # Killed while it was written, or edited: the job counts as new and its record is written again.
            return {}

    def write_record(self, **more: object) -> None:
        """Write the job's flags, and `more`, to its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.folder / "job.json") as file:
            file.write(json.dumps({"flags": self.flags(), **more}, indent=2).encode() + b"\n")


def job_for(root: Path, configuration: str, parameter: str, value: str, seed: int, extra: Sequence[str]) -> Job:
    """Return the run of one point of a sweep; the configuration's own value changes nothing."""
    if parameter == CONFIGURATION:
        return Job(root, value, {}, seed, tuple(extra))
    # So the point at which all sweeps of a configuration cross is one folder, and is trained once.
    own = (_COMMON | CONFIGURATIONS[configuration])[parameter]
    return Job(root, configuration, {} if value == own else {parameter: value}, seed, tuple(extra))


def points(
    parameters: Sequence[str], values: Sequence[str], configurations: Sequence[str]
) -> Iterable[tuple[str, str, str]]:
    """Yield (parameter, value, configuration) of every point; `values` stands in for the table's, where given."""
    for parameter in parameters:
        if parameter == CONFIGURATION:
            yield from ((parameter, value, value) for value in values or CONFIGURATIONS)
        else:
            # A configuration after the other, so that its runs lie beside each other in the table.
            yield from ((parameter, value, name) for name in configurations for value in values or VALUES[parameter])


def check_values(parameters: Sequence[str], values: Sequence[str], extra: Sequence[str]) -> None:
    """Refuse values that are none, and main.py's flags that the sweep sets itself. Raises RoofError."""
    if values and len(parameters) > 1:
        raise RoofError(f"--values are those of one parameter, not of {', '.join(parameters)}")
    allowed = {"precision": tuple(_PRECISION), CONFIGURATION: tuple(CONFIGURATIONS)}
    for parameter in parameters:
        for value in values:
            if parameter in allowed and value not in allowed[parameter]:
                raise RoofError(f"--values {value}: {parameter} is one of {', '.join(allowed[parameter])}")
            if parameter not in allowed and not (value.isdecimal() and int(value) > 0):
                raise RoofError(f"--values {value}: {parameter} is a positive number")
    # precision is no flag of main.py: it is the two flags that it sets.
    swept = {*parameters, *_OURS, *(("amp", "tf32") if "precision" in parameters else ())}
    for word in extra:
        # main.py's parser takes --batch_size and --batch-size, and a value behind =.
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name in swept:
            raise RoofError(f"--{name} is the sweep's to set: leave it out behind --")
