"""Several processes: launched by torchrun or by Slurm, they train together, and the first one alone speaks."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rooflines.modules.ranks import compare_ranks
from rooflines.modules.run import read_run
from rooflines.read.trace_modules import by_module

import building
import main
from engine import compute_losses
from tests.helpers import TINY, batch, build, rows
from tests.processes import LAUNCHERS, Started, command, environment, free_port, python, start_two
from util.dist.distributed import init_distributed, shutdown
from util.nested_tensor import nested_tensor_from_tensor_list

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_and_only_the_first_prints(launcher: str, tmp_path: Path) -> None:
    (code0, out0, err0), (code1, out1, err1) = start_two(
        command, f"{TINY} --epochs 1 --batch_size 2 --output_dir {tmp_path}", launcher=launcher
    )
    assert (code0, code1) == (0, 0), err0 + err1
    assert "2 processes" in out0 and "Epoch: [0]  [2/2]" in out0 and "images: 4" in out0
    assert "Warning" not in err0 + err1
    assert out1 == "" and len(rows(tmp_path)) == 1


@pytest.mark.slow
def test_processes_are_profiled_together_and_the_first_reports(tmp_path: Path) -> None:
    flags = f"--epochs 2 --batch_size 2 --section backward --timing --torch_profile {tmp_path} --output_dir {tmp_path}"
    (code0, out0, err0), (code1, out1, err1) = start_two(
        command, f"{TINY} {flags} --profile_warmup 1 --profile_steps 2 --module_ranges 4"
    )
    assert (code0, code1) == (0, 0), err0 + err1
    assert out1 == "" and "the run ends here" in out0 and out0.count("optimizer_step") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "timing.json",
        "trace_rank0.json.gz",
        "trace_rank1.json.gz",
    ]
    ranks = read_run(tmp_path).processes
    assert compare_ranks(ranks)["rank"].tolist() == ["0", "1"]
    for modules in ranks:
        table, kinds = by_module(modules), modules.rows.groupby("family", observed=True)["time_s"].sum()
        assert table["time_s"].sum() == pytest.approx(modules.seconds / modules.steps, rel=0.01)
        # What gloo exchanges is in no module, and the modules have their forward and backward as in one process.
        exchanged = modules.rows[modules.rows["family"] == "communication"]
        assert kinds["communication"] > 0 and set(exchanged["module"]) == {""}
        assert {"forward", "backward"} <= set(exchanged["direction"])
        found = set(zip(table["module"], table["direction"]))
        assert {("backbone.layer4.0.conv2", "backward"), ("class_embed", "forward"), ("matcher", "forward")} <= found


@pytest.mark.slow
def test_a_mistake_is_one_line_from_one_process() -> None:
    (code0, _, err0), (code1, out1, err1) = start_two(command, f"{TINY} --resume /nowhere.pth")
    assert (code0, code1) == (2, 2)
    assert err0.count("main.py: error:") == 1 and "/nowhere.pth" in err0 and "Traceback" not in err0 + err1
    assert out1 == "" and "main.py: error" not in err1


@pytest.mark.slow
def test_the_script_itself_trains_in_two_processes(tmp_path: Path) -> None:
    """`python main.py` from nothing: no server has imported anything before the first of the two."""
    port = free_port()
    # A small network: nothing narrows ResNet-18 in these processes.
    small = "--backbone mobilenet_v3_small --val_size 2 --batch_size 2"
    flags = f"{TINY} {small} --epochs 1 --max_steps 1 --output_dir {tmp_path}".split()
    first, second = (LAUNCHERS["torchrun"](rank, port) for rank in (0, 1))
    other = Started(python, [main.__file__, *flags], str(tmp_path), **second)
    result = subprocess.run(
        [sys.executable, main.__file__, *flags], env=environment(**first), capture_output=True, text=True, timeout=200
    )
    code1, out1, err1 = other.end()
    out0, err0 = result.stdout, result.stderr
    assert [result.returncode, code1] == [0, 0], err0 + err1
    assert "2 processes" in out0 and "Warning" not in err0 + err1 and out1 == "" and len(rows(tmp_path)) == 1


def save_gradient(path: Path) -> None:
    """Save the gradient of four images: of each half in one process, or both halves in turn in a single one."""
    torch.manual_seed(0)
    launch = init_distributed(device="cpu")
    model, criterion, _ = build()
    samples, targets = batch(4)
    targets[0]["labels"] = targets[0]["labels"].repeat(3)
    targets[0]["boxes"] = torch.cat([targets[0]["boxes"], torch.rand(2, 4) * 0.3 + 0.3])
    halves = [slice(0, 2), slice(2, 4)]
    if launch.distributed:  # this process's half, with DDP's mean of the gradients
        model = building.wrap_model(model, launch)
        mine = halves[launch.rank]
        mine_samples = nested_tensor_from_tensor_list(samples.tensors[mine])
        _, losses = compute_losses(model, criterion, mine_samples, targets[mine])
        criterion.total(losses).backward()
    else:  # both halves in one process, each divided by the shared count of boxes, 6 / 2
        for half in halves:
            losses = criterion(model(samples.tensors[half]), targets[half], num_boxes=3.0)
            (criterion.total(losses) / 2).backward()
    if launch.rank == 0:
        found = {n: p.grad for n, p in building.without_wrapper(model).named_parameters() if p.grad is not None}
        torch.save(found, path)
    shutdown()


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    single = Started(save_gradient, tmp_path / "one")
    for code, _, err in [*start_two(save_gradient, tmp_path / "two"), single.end()]:
        assert code == 0, err
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one", "two"))
    assert one.keys() == two.keys() and len(one) > 50
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6, msg=name)
