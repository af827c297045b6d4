"""Train over a parameter's values, several seeds each, and draw AP, time and memory over it.

    python sweep.py nheads num_queries --seeds 0 1 2 -o runs/sweep -- --dataset_file hgp --epochs 3
    python sweep.py configuration precision --configurations basic optimized -- --data_path DIR --epochs 3
    python sweep.py batch_size --cluster slurm --slurm account=m1234 qos=shared constraint=gpu -- --data_path DIR
    python sweep.py nheads --print -- ...        list the jobs
    python sweep.py nheads --plot -- ...         draw what there is, e.g. while Slurm still works on it

What stands behind `--` goes to main.py in every job. A job is a folder, <configuration>-<parameter>=<value>/seed<n>,
with main.py's own files and output.txt. The same command again skips what is finished and goes on with what is not.
"""

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rooflines import RoofError
from rooflines.command_line import FlagParser
from rooflines.sweeps.jobs import CONFIGURATION, CONFIGURATIONS, VALUES, Job, check_values, job_for, points
from rooflines.sweeps.run import run_here, submit_array


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the flags; `extra` is what stands behind `--`. Raises RoofError for what cannot work."""
    words = list(arguments)
    # By hand: PARAMETER... would otherwise take the words behind `--`, too.
    end = words.index("--") if "--" in words else len(words)
    parser = FlagParser(
        prog="sweep.py",
        description=__doc__,
        usage="sweep.py PARAMETER... [flags] -- [flags of main.py]",
    )
    add = parser.add_argument
    add(
        "parameters",
        nargs="+",
        choices=(*VALUES, CONFIGURATION),
        metavar="PARAMETER",
        help=", ".join((*VALUES, CONFIGURATION)),
    )
    add("--values", nargs="+", default=[], help="instead of the usual ones, for one parameter")
    add(
        "--configurations",
        nargs="+",
        choices=CONFIGURATIONS,
        default=["basic"],
        metavar="NAME",
        help="what the other parameters are: basic, optimized (basic)",
    )
    add("--seeds", nargs="+", type=int, default=[42, 43, 44], metavar="N", help="a run for each (42 43 44)")
    add("-o", "--output_dir", type=Path, default=Path("runs/sweep"), help="of all the jobs (%(default)s)")
    add(
        "--cluster", choices=("local", "slurm"), help="where to run (default: slurm where sbatch is, else this machine)"
    )
    add(
        "--parallel",
        type=int,
        default=1,
        metavar="N",
        help="jobs at a time, on this machine each with GPUs of its own (%(default)s)",
    )
    add("--gpus", type=int, default=1, help="of a job (%(default)s)")
    add("--cpus", type=int, default=8, help="slurm: of a job (%(default)s)")
    add("--timeout", type=int, default=24 * 60, metavar="MINUTES", help="of a job; it goes on in another (%(default)s)")
    add(
        "--slurm",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="options of sbatch: account=m1234 qos=shared constraint=gpu",
    )
    add("--print", dest="only_print", action="store_true", help="list the jobs and run nothing")
    add("--plot", dest="only_plot", action="store_true", help="draw what there is and run nothing")
    args = parser.parse_args(words[:end])
    args.extra = words[end + 1 :]
    _check(args)
    return args


def _check(args: argparse.Namespace) -> None:
    check_values(args.parameters, args.values, args.extra)
    for name in ("parallel", "gpus", "cpus", "timeout"):
        if getattr(args, name) < 1:
            raise RoofError(f"--{name} {getattr(args, name)}: must be at least 1")
    for option in args.slurm:
        if not all(option.partition("=")):
            raise RoofError(f"--slurm {option}: give it as key=value, e.g. account=m1234")


def all_jobs(args: argparse.Namespace) -> list[tuple[str, str, str, Job]]:
    """Return (parameter, value, configuration, job) for every point and seed."""
    root = args.output_dir.absolute()
    return [
        (parameter, value, configuration, job_for(root, configuration, parameter, value, seed, args.extra))
        for parameter, value, configuration in points(args.parameters, args.values, args.configurations)
        for seed in args.seeds
    ]


def run(jobs: list[Job], args: argparse.Namespace) -> int:
    """Run what is not finished; return the exit code."""
    # What ended whole is kept: a sweep that was stopped makes up for the rest.
    left = [job for job in jobs if job.state() != "finished"]
    print(f"{len(jobs)} jobs, {len(jobs) - len(left)} of them finished", flush=True)
    cluster = args.cluster or ("slurm" if shutil.which("sbatch") else "local")
    if not left:
        return 0
    if cluster == "local":
        # Without Slurm one after another, or as many at a time as there are GPUs for.
        broken = run_here(left, args.output_dir, parallel=args.parallel, gpus=args.gpus, timeout=args.timeout)
        return 1 if broken else 0
    # At the first sign alone: a value may hold others.
    options = dict(option.split("=", 1) for option in args.slurm)
    ids = submit_array(
        left,
        args.output_dir.absolute(),
        parallel=args.parallel,
        gpus=args.gpus,
        cpus=args.cpus,
        timeout=args.timeout,
        options=options,
    )
    print(f"submitted {len(ids)} ({', '.join(ids) or 'the others still wait or run'}); sweep.py ... --plot draws them")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code. A mistake of the user is one line and 2."""
    try:
        args = parse_args(sys.argv[1:] if arguments is None else arguments)
        planned = all_jobs(args)
        # Points of several parameters share runs: by their folder each counts once.
        jobs = list({job.folder: job for *_, job in planned}.values())
        if args.only_print:
            for job in jobs:
                print(f"{job.state():>8}  {job.name}  {shlex.join(job.command(args.gpus))}")
            return 0
        code = 0 if args.only_plot else run(jobs, args)
        from rooflines.sweeps.plot import write_results  # pandas and matplotlib take their time

        paths = write_results(planned, args.output_dir)
        print(f"wrote {', '.join(map(str, paths))}")
    except RoofError as error:
        print(f"sweep.py: error: {error.line()}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"sweep.py: error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return RoofError.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
