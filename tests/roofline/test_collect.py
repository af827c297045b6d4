"""Collecting: metrics of each GPU, commands for ncu and nsys, and the outcome of a run, with stand-ins for both."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import collect
import pytest
from rooflines import RoofError
from rooflines.collect.metric_sets import base_name, metric_set, parse_capability
from rooflines.read.inputs import load_runs
from rooflines.read.messages import explain
from rooflines.read.metrics import PEAK, column_of

from tests.stand_ins import StandIns
from util.profiling import SECTIONS

COLLECT = Path(collect.__file__)
CAPABILITIES = [(7, 0), (7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (11, 0), (12, 0), (12, 1)]

NCU = """
if argv == ["--version"]:
    print("Version 2024.1.1.0 (build 1)")
elif argv == ["--query-metrics"]:
    print("Device NVIDIA A100\\n" + env.get("KNOWN", ""))
elif argv[0] == "--import":
    names = argv[argv.index("--metrics") + 1].split(",")
    fixed = ["ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream",
             "Block Size", "Grid Size", "Device", "CC"]
    values = {"gpu__time_duration.sum": "1000", "sm__cycles_elapsed.avg.per_second": "1400000000",
              "device__attribute_display_name": "NVIDIA A100-SXM4-40GB"}
    rows = [fixed + names, [""] * 11 + ["nsecond" if "time" in name else "" for name in names]]
    rows += [[str(i), "9", "python", "h", "gemm(int)", "1", "7", "(128, 1, 1)", "(4, 1, 1)", "0", "8.0"]
             + [values.get(name, "64") for name in names] for i in range(3)]
    for row in rows:
        print(",".join('"' + cell + '"' for cell in row))
else:
    report = argv[argv.index("--export") + 1]
    code = subprocess.call(argv[argv.index("--export") + 2:])
    with open(report + ".log", "w") as file:
        file.write(env.get("MESSAGES", "==PROF== Disconnected\\n"))
    if not env.get("NO_REPORT"):
        open(report + ".ncu-rep", "w").close()
    sys.exit(code)
"""
NSYS = """
if "--version" in argv:
    print("NVIDIA Nsight Systems version 2023.4.4.54-1v0")
elif argv[0] == "profile":
    report = argv[argv.index("--output") + 1]
    code = subprocess.call(argv[argv.index("--output") + 2:])
    open(report + ".nsys-rep", "w").close()
    sys.exit(code)
"""


@pytest.fixture
def stand_ins(tmp_path: Path) -> StandIns:
    """ncu, nsys, an A100, and a program that notes its locale and ends with EXIT."""
    found = StandIns(tmp_path)
    found.add("ncu", NCU)
    found.add("nsys", NSYS)
    found.add("nvidia-smi", "print('8.0, NVIDIA A100-SXM4-40GB\\n8.0, NVIDIA A100-SXM4-40GB')")
    found.add("train", "print('LC_ALL is', env.get('LC_ALL')); sys.exit(int(env.get('EXIT', 0)))")
    return found


def run(stand_ins: StandIns, *arguments: object, program: str = "train main.py --epochs 1", **variables: object):
    """collect.py ARGUMENTS -- PROGRAM, into the folder `out`."""
    out = ["--output_dir", str(stand_ins.folder.parent / "out")]
    command = [sys.executable, str(COLLECT), *map(str, arguments), *out, "--", *program.split()]
    return subprocess.run(command, env=stand_ins.environ(**variables), capture_output=True, text=True)


# ---- which metrics


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_metric_is_collected_once_and_read(capability: tuple[int, int]) -> None:
    names = metric_set(capability)
    assert len(names) == len(set(names))
    assert [name for name in names if column_of(name) is None] == []


@pytest.mark.parametrize(
    ("capability", "there", "absent"),
    [
        ((7, 0), "src_fp16_dst_fp32.sum", "tf32"),
        ((7, 5), "src_fp16_bf16_tf32_dst_fp32.sum", "fp64"),
        ((8, 0), "src_tf32_dst_fp32.sum", "fp8"),
        ((8, 6), "src_bf16_dst_fp32.sum", "hfma2"),
        ((8, 9), "src_fp8.sum", "tma"),
        ((9, 0), "pipe_tma", "src_fp16_dst"),
        ((10, 3), "fp4_fp6_fp8_dst_fp32.sum", "src_fp8_dst"),
        ((12, 0), "src_fp8_dst_fp32_sparsity_off.sum", "fp4_fp6_fp8"),
        ((12, 0), "dram__bytes_op_read.sum", "dram__bytes_read.sum"),
        ((8, 7), "src_fp64.sum", "dram"),
        ((12, 1), "src_fp64.sum", "dram"),
    ],
)
def test_each_gpu_has_its_own(capability: tuple[int, int], there: str, absent: str) -> None:
    text = ",".join(metric_set(capability))
    assert there in text
    assert absent not in text.replace("op_dfma", "").replace("_hmma_type_hfma2", "hfma2")


def test_the_reports_own_peaks_and_clocks_are_among_them() -> None:
    for capability, level in (((7, 0), ""), ((8, 0), "_mem_lg"), ((9, 0), "_mem_lgds")):
        names = metric_set(capability)
        assert f"l1tex__lsu_writeback_active{level}{PEAK}" in names
        assert {f"dram__bytes{PEAK}", f"lts__lts2xbar_cycles_active{PEAK}"} <= set(names)
        assert {f"{unit}__cycles_elapsed.avg.per_second" for unit in ("sm", "lts", "l1tex", "dram")} <= set(names)
        peaks = [name for name in names if "ops_path" in name and name.endswith(PEAK)]
        assert all("sparsity_off" in name or "fp64" in name or capability == (7, 0) for name in peaks), "dense ones"
        assert len(peaks) == sum("ops_path" in name and name.endswith(".sum") for name in names)


@pytest.mark.parametrize(
    ("text", "complaint"), [("80", "give it as 8.0"), ("x.y", "give it as"), ("6.1", "7.0 (V100) and later")]
)
def test_capabilities_that_make_no_sense(text: str, complaint: str) -> None:
    with pytest.raises(RoofError) as caught:
        parse_capability(text)
    assert complaint in str(caught.value)


def test_a_real_ncu_knows_every_metric() -> None:
    ncu = shutil.which("ncu")
    if ncu is None:
        pytest.skip("no Nsight Compute (ncu) on the PATH")
    for chip, capability in {"ga100": (8, 0), "ga102": (8, 6), "ad102": (8, 9), "gh100": (9, 0)}.items():
        done = subprocess.run([ncu, "--query-metrics", "--chips", chip], capture_output=True, text=True)
        listed = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
        assert [name for name in metric_set(capability) if base_name(name) not in listed] == []


def test_the_sections_are_those_of_main() -> None:
    assert (*collect.SECTIONS, "all") == SECTIONS


# ---- the commands


def test_the_command_for_counters(stand_ins: StandIns) -> None:
    result = run(stand_ins, "loss", "backward", "--print", "--name", "r50", "--compute_capability", "8.0")
    assert result.returncode == 0
    assert stand_ins.calls() == [], "shown, not run"
    lines = [shlex.split(line) for line in result.stdout.splitlines()]
    assert [line[:2] for line in lines] == [["LC_ALL=C", "ncu"]] * 4
    profile, export = lines[0], lines[1]
    text = " ".join(profile)
    for option in (
        "--profile-from-start off",
        "--kernel-name regex:^(?!nccl).*",
        "--target-processes all",
        "--nvtx",
        "--clock-control none",
        "--cache-control none",
        "--force-overwrite",
    ):
        assert option in text
    assert "--launch-count" not in text and "--kernel-id" not in text, "every launch in the window"
    assert profile[profile.index("--metrics") + 1] == ",".join(metric_set((8, 0)))
    assert profile[-6:] == ["train", "main.py", "--epochs", "1", "--section", "loss"]
    assert {"--csv", "raw", "base"} <= set(export) and export[export.index("--print-units") + 1] == "base"
    assert export[-2:] == [">", str(stand_ins.folder.parent / "out" / "output_r50_loss.csv")]
    assert lines[2][-1] == "backward"


def test_policies_of_clock_and_cache(stand_ins: StandIns) -> None:
    result = run(
        stand_ins, "all", "--print", "--compute_capability", "9.0", "--clock_control", "base", "--cache-control", "all"
    )
    assert "--clock-control base --cache-control all" in result.stdout


def test_the_command_for_a_timeline(stand_ins: StandIns) -> None:
    result = run(stand_ins, "all", "--nsys", "--print")
    profile, stats = result.stdout.splitlines()
    assert "nsys profile --trace cuda,nvtx,osrt" in profile and "--capture-range cudaProfilerApi" in profile
    assert profile.endswith("train main.py --epochs 1 --section all")
    assert "nsys stats" in stats and "timeline_run_all.nsys-rep" in stats


def test_the_gpu_at_hand_chooses_the_metrics(stand_ins: StandIns) -> None:
    assert ",".join(metric_set((8, 0))) in run(stand_ins, "all", "--print").stdout
    stand_ins.add("nvidia-smi", "print('9.0, NVIDIA H100')")
    assert ",".join(metric_set((9, 0))) in run(stand_ins, "all", "--print").stdout


# ---- running


@pytest.mark.slow
def test_a_section_becomes_a_csv_that_postprocess_reads(stand_ins: StandIns, tmp_path: Path) -> None:
    result = run(stand_ins, "loss", "optimizer_step", "--name", "r50")
    assert (result.returncode, result.stderr) == (0, "")
    assert "loss: 3 launches in" in result.stdout and "LC_ALL is C" in result.stdout
    assert [call[-2:] for call in stand_ins.calls("train")] == [["--section", "loss"], ["--section", "optimizer_step"]]
    out = tmp_path / "out"
    assert sorted(path.name for path in out.glob("*")) == [
        "output_r50_loss.csv",
        "output_r50_optimizer_step.csv",
        "reports",
    ]
    loaded = load_runs([out])
    assert loaded.runs == ["r50"] and set(loaded.rows["section"]) == {"loss", "optimizer_step"}
    assert loaded.roofs["r50"].source.startswith("the report's own peaks")
    assert loaded.rows["device"].iloc[0] == "NVIDIA A100-SXM4-40GB" and loaded.rows["launches"].sum() == 6
    record = json.loads((out / "reports" / "output_r50_loss.json").read_text())
    assert (
        record["profiler"] == "2024.1.1.0"
        and record["gpu"] == "NVIDIA A100-SXM4-40GB"
        and "--section loss" in record["command"]
    )


def test_metrics_that_this_ncu_lacks_are_named_and_left_out(stand_ins: StandIns) -> None:
    known = [base_name(name) for name in metric_set((8, 0)) if "ops_path" not in name]
    result = run(stand_ins, "loss", KNOWN="\n".join(f"{name}   Counter   inst" for name in known))
    assert result.returncode == 0
    assert "note: this ncu has no sm__ops_path_tensor_src_fp16_dst_fp16.sum" in result.stdout
    profile = next(call for call in stand_ins.calls("ncu") if "--export" in call)
    assert "ops_path" not in " ".join(profile) and "gpu__time_duration.sum" in " ".join(profile)


def test_a_broken_run_keeps_its_exit_code_and_ends_the_rest(stand_ins: StandIns, tmp_path: Path) -> None:
    result = run(stand_ins, "forward", "loss", EXIT=3)
    assert result.returncode == 3
    assert result.stderr == "collect.py: forward broke with exit code 3: see the lines above\n"
    assert len(stand_ins.calls("train")) == 1
    assert not (tmp_path / "out" / "output_run_forward.csv").exists()


def test_a_run_killed_by_a_signal_has_a_shells_exit_code(stand_ins: StandIns) -> None:
    stand_ins.add("ncu", NCU.replace("sys.exit(code)", "os.kill(os.getpid(), 9)"))
    assert run(stand_ins, "loss").returncode == 137


def test_the_programs_exit_code_counts_where_ncu_hides_it(stand_ins: StandIns) -> None:
    result = run(stand_ins, "loss", MESSAGES="==ERROR== The application returned an error code (2).\n")
    assert result.returncode == 2 and "The application returned an error code (2)" in result.stderr


def test_a_program_that_fails_is_not_called_a_window_without_kernels() -> None:
    messages = "==ERROR== The application returned an error code (2).\n==WARNING== No kernels were profiled.\n"
    assert explain(messages) == "The application returned an error code (2)."


def test_a_window_without_kernels_is_no_success(stand_ins: StandIns) -> None:
    result = run(stand_ins, "loss", NO_REPORT=1, MESSAGES="==WARNING== No kernels were profiled.\n")
    assert result.returncode == 1
    assert "no kernel ran in the window" in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission", "ask the administrator"),
        ("Profiling failed because a driver resource was unavailable", "dcgmi profile --pause"),
        ("Failed to open/create lock file /tmp/nsight-compute-lock", "TMPDIR"),
        ("==ERROR== Something new.", "Something new."),
        ("", ""),
    ],
)
def test_what_messages_mean(message: str, advice: str) -> None:
    assert advice in explain(message) and bool(explain(message)) is bool(advice)


def test_a_timeline_and_its_summaries(stand_ins: StandIns, tmp_path: Path) -> None:
    result = run(stand_ins, "all", "--nsys")
    assert result.returncode == 0
    assert [call[0] for call in stand_ins.calls("nsys")] == ["--version", "profile", "stats"]
    assert (tmp_path / "out" / "reports" / "timeline_run_all.nsys-rep").is_file()


# ---- several processes


@pytest.mark.slow
def test_other_ranks_run_without_the_profiler(stand_ins: StandIns) -> None:
    ranks = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    assert run(stand_ins, "backward", RANK=1, **ranks).returncode == 0
    assert stand_ins.calls("ncu") == [] and stand_ins.calls("train")[0][-2:] == ["--section", "backward"]
    assert run(stand_ins, "backward", RANK=0, **ranks).returncode == 0
    assert any("--export" in call for call in stand_ins.calls("ncu"))
    result = run(stand_ins, "forward", "backward", RANK=0, **ranks)
    assert result.returncode == 2 and "one section per launch" in result.stderr
    assert "there are 2 processes" in run(stand_ins, "backward", "--rank", 2, RANK=0, **ranks).stderr


def test_every_rank_has_a_timeline(stand_ins: StandIns, tmp_path: Path) -> None:
    run(stand_ins, "all", "--nsys", RANK=1, WORLD_SIZE=2, MASTER_ADDR="127.0.0.1", MASTER_PORT=1)
    assert (tmp_path / "out" / "reports" / "timeline_run_all_rank1.nsys-rep").is_file()


# ---- mistakes, each in one line


@pytest.mark.parametrize(
    ("arguments", "program", "complaint"),
    [
        (["forwrd"], "train", "invalid choice: 'forwrd'"),
        (["loss"], "", "behind --"),
        (["loss"], "no-such-program", "no such command"),
        (["loss"], "srun train", "srun goes before collect.py"),
        (["loss"], "python -m torch.distributed.run main.py", "goes before collect.py"),
        (["loss"], "train --section=loss", "--section is added"),
        (["loss", "--name", "my_loss"], "train", "choose another"),
        (["loss", "--nsys", "--compute_capability", "8.0"], "train", "leave it out"),
    ],
)
def test_mistakes(stand_ins: StandIns, arguments: list[str], program: str, complaint: str) -> None:
    result = run(stand_ins, *arguments, program=program)
    assert result.returncode == 2
    assert complaint in result.stderr and len(result.stderr.splitlines()) == 1
    assert stand_ins.calls("train") == []


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        ("ncu", "developer.nvidia.com/nsight-compute"),
        ("nsys", "developer.nvidia.com/nsight-systems"),
        ("nvidia-smi", "give --compute_capability"),
    ],
)
def test_what_is_missing_is_said(stand_ins: StandIns, missing: str, complaint: str) -> None:
    (stand_ins.folder / missing).unlink()
    command = [sys.executable, str(COLLECT), "all", *(["--nsys"] if missing == "nsys" else []), "--", "train"]
    result = subprocess.run(command, env=stand_ins.environ(alone=True), capture_output=True, text=True)
    assert result.returncode == 2
    assert complaint in result.stderr and len(result.stderr.splitlines()) == 1


def test_gpus_of_several_kinds_must_be_told_apart(stand_ins: StandIns) -> None:
    stand_ins.add("nvidia-smi", "print('8.0, NVIDIA A100\\n9.0, NVIDIA H100')")
    assert "GPUs of several kinds" in run(stand_ins, "all", "--print").stderr


def test_a_folder_that_cannot_be_written_is_one_line(stand_ins: StandIns, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    result = run(stand_ins, "loss")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and "out" in result.stderr
