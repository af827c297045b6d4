"""The trace of torch.profiler: its steps, its ranges, and that they stop going there afterwards."""

import gzip
import json
from pathlib import Path

import pytest

from util import profiling
from util.errors import UserError
from util.profiling import Section, annotate
from util.profiling.phases import StepPhases
from util.profiling.torch_trace import TorchTrace


def test_it_records_its_steps_and_no_other(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    trace = TorchTrace(folder=str(tmp_path / "new" / "folder"), warmup=1, steps=2)
    phases = StepPhases([trace])
    recorded = []
    for step in range(4):
        with phases.step(), phases.phase(Section.BACKWARD), annotate(f"step {step}"):
            recorded.append(profiling._recording)
        assert trace.done == (step >= 2)
    assert recorded == [False, True, True, False]
    file = tmp_path / "new" / "folder" / "trace_rank0.json.gz"
    names = [event.get("name") for event in json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]]
    assert [names.count(f"step {step}") for step in range(4)] == [0, 1, 1, 0]
    assert names.count("backward") == names.count("iteration") == 2
    assert str(file) in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--torch_profile .*file/x: cannot make this folder"):
        TorchTrace(folder=str(tmp_path / "file" / "x"), warmup=0, steps=1)
