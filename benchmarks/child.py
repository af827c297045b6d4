"""One checkout in a process of its own that does a piece of work whenever it is told to: what alternating benchmarks share."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Child:
    """Runs `script` (beside this file) in `checkout`; its first line of input is the order, every further one starts work.

    It answers each start with one line of JSON. Raises SystemExit when it ends before it has answered.
    """

    def __init__(self, script: str, checkout: Path, order: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(script))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        )  # fmt: skip
        self._send(json.dumps(order | {"checkout": str(checkout)}))

    def work(self) -> dict[str, Any]:
        """Have one piece of work done and return what it measured."""
        self._send("work")
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the worker ended with exit code {self.process.wait()}; see above")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    def _send(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
