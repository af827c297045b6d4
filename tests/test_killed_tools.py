"""Tools that are killed in the middle of writing leave no half file under its name, whatever they write."""

import re
import signal
import sys
from pathlib import Path

import numpy as np
import postprocess
import pytest
from PIL import Image

import export
import predict
from tests.inference.checkpoints import NAMES, write_checkpoint
from tests.processes import Started
from tests.roofline.ncu_files import CONV, Kernel, long_rows

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

resource = pytest.importorskip("resource", reason="file size limits are POSIX's")
ROOT = Path(__file__).resolve().parents[1]

#: Bytes of a file that are written before the system kills the process.
LIMIT = 1500
#: Lines that write without `atomic_file`, and why that is right.
DIRECT = {
    "util/runs/atomic.py": "that function",
    "roofline-on-nvidia-gpus/custom-scripts/rooflines/files.py": "and that of the rooflines",
    "util/misc.py": "DETR's save_on_master, for scripts of others",
    "util/web/fetch.py": "a download under a name of its own, to be resumed",
    "util/runs/record.py": "what was typed and said, line by line",
    "util/runs/run_folder.py": "rows that are added to the log",
    "util/runs/gpu_log.py": "rows that are added",
    "util/loggers/to_wandb.py": "one short line",
    "inference/export/formats.py": "in a folder that export.py makes for it",
    "datasets/convert/folder.py": "in a folder that is renamed",
    "datasets/prepare/__main__.py": "a lock",
    "roofline-on-nvidia-gpus/custom-scripts/rooflines/sweeps/run.py": "a job's output",
    "roofline-on-nvidia-gpus/custom-scripts/rooflines/bus.py": "in a folder of its own that is thrown away",
}
WRITES = re.compile(
    r"""\.write_(text|bytes)\(|open\([^)\n]*["'][wax]b?["']|\.(save|savefig|to_csv)\((path|folder|out)"""
)


def killed_at_limit(tool: str, words: list[str]) -> int:
    """Run a tool that the system kills as soon as a file grows beyond the limit."""
    # Python takes the first write up to the limit for a whole one: it would leave torn byte code of what is imported.
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python takes it for an error of the file
    return {"predict": predict.cli, "export": export.cli, "postprocess": postprocess.main}[tool](words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, an image and counters of kernels."""
    place = tmp_path_factory.mktemp("inputs")
    write_checkpoint(place / "best.pth", names=NAMES, num_queries=60)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(place / "image.png")
    kernels = [Kernel.counted(CONV, id=k, tensor=2_340_864, dram=8e6, push_pop=(f"part{k}",)) for k in range(20)]
    (place / "output.csv").write_text("\n".join(long_rows(kernels)) + "\n")
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "predict --resume {}/best.pth --input {}/image.png --device cpu --threshold 0 --output OUT",
        "predict --resume {}/best.pth --input {}/image.png --device cpu --threshold 0 --output OUT --no_images --json",
        "export --resume {}/best.pth --format safetensors --check_images 0 OUT/model.safetensors",
        "postprocess {}/output.csv --output_dir OUT",
    ],
    ids=["pictures", "json", "export", "rooflines"],
)
def test_a_killed_tool_leaves_no_half_file(folder: Path, tmp_path: Path, command: str) -> None:
    tool, *words = command.replace("{}", str(folder)).replace("OUT", str(tmp_path / "out")).split()
    code, out, err = Started(killed_at_limit, tool, words).end()
    assert code == -signal.SIGXFSZ, (code, out, err)
    sizes = {p.relative_to(tmp_path / "out"): p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file()}
    hidden = {p for p in sizes if any(part.startswith(".") for part in p.parts)}
    # What has its name was whole before the limit was met.
    assert hidden and all(size < LIMIT for p, size in sizes.items() if p not in hidden), sizes


def test_files_get_their_names_when_they_are_whole() -> None:
    tools = [
        p for p in ROOT.rglob("*.py") if not {".venv", "tests", "benchmarks", "docs"} & set(p.relative_to(ROOT).parts)
    ]
    direct = {str(p.relative_to(ROOT)) for p in tools if WRITES.search(p.read_text())}
    assert len(tools) > 200 and direct - DIRECT.keys() == set(), "write with util.runs.atomic.atomic_file"
