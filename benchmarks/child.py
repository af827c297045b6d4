"""A checkout in a process of its own that does a piece of work when it is told to, for benchmarks that alternate."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Child:
    """A worker process, which answers every piece of work with one line of JSON.

    Args:
        script: the worker's file beside this one; its first line of input is the order, every further one starts work.
        checkout: the folder to run it in.
        order: what the worker is told at its start, as JSON.
    """

    def __init__(self, script: str, checkout: Path, order: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(script))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=checkout,
            # Threads of the worker that waits would otherwise spin and take the cores of the one that is measured; and
            # as `main.py` and `predict.py` have it, they do not sleep between two operators.
            env={"GOMP_SPINCOUNT": "50000"} | os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        )
        self._send(json.dumps(order | {"checkout": str(checkout)}))

    def work(self) -> dict[str, Any]:
        """Have one piece of work done and return what it measured.

        Raises:
            SystemExit: the worker ended before it answered.
        """
        self._send("work")
        assert self.process.stdout is not None
        # An empty line is the end of the pipe: the worker has died, and its error is on the screen already.
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the worker ended with exit code {self.process.wait()}; see above")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


def alternate(
    workers: Mapping[str, Child], rounds: int, *, warm_up: int = 1, describe: Callable[[dict[str, Any]], str]
) -> dict[str, list[dict[str, Any]]]:
    """Ask the workers in turn, every other round backwards, and close them at the end.

    Args:
        workers: the processes by name.
        rounds: the answers of each that count.
        warm_up: rounds before these, whose answers do not count.
        describe: how an answer is printed.

    Returns:
        The answers that count, by worker.
    """
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    try:
        for number in range(-warm_up, rounds):
            # Backwards in every other round: a machine that grows slower meanwhile slows both alike.
            for name in list(workers)[:: 1 if number % 2 == 0 else -1]:
                answer = workers[name].work()
                print(f"{'warm-up' if number < 0 else number} {name:>12}: {describe(answer)}", flush=True)
                if number >= 0:
                    answers[name].append(answer)
    finally:
        for worker in workers.values():
            worker.close()
    return answers


def medians_of(answers: Mapping[str, list[dict[str, Any]]], key: str = "seconds") -> dict[str, float]:
    """Median of a quantity over the answers of each worker that has it."""
    return {
        name: statistics.median(answer[key] for answer in rows)
        for name, rows in answers.items()
        if rows and key in rows[0]
    }
