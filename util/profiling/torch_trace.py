"""torch.profiler's trace of a few steps, with the ranges that NVTX has, for Perfetto or chrome://tracing."""

from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from ..dist.accelerator import TABLE
from ..dist.distributed import get_rank, print_once
from ..errors import UserError
from . import Section, record_ranges


class TorchTrace:
    """Records `steps` training steps after `warmup` others and writes `trace_rank<R>.json.gz` to a folder.

    Raises UserError where the folder cannot be made.
    """

    def __init__(self, *, folder: str, warmup: int, steps: int) -> None:
        self.path = Path(folder) / f"trace_rank{get_rank()}.json.gz"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--torch_profile {folder}: cannot make this folder ({error.strerror})") from error
        self.begin_at, self.end_at = warmup, warmup + steps
        self.current = -1
        self.profile: profile | None = None

    def begin_wait(self) -> None:
        """The trace has the loader's calls as they are."""

    def begin_step(self, step: int) -> None:
        """Start with the first step after the warm-up."""
        self.current = step
        if step == self.begin_at:
            # Without the activity the trace has the launches alone, not the kernels.
            cuda = [ProfilerActivity.CUDA] if TABLE["cuda"].available() else []
            self.profile = profile(activities=[ProfilerActivity.CPU, *cuda], record_shapes=True)
            # Only now: ranges cost a little each, and before the window nobody reads them.
            record_ranges(True)
            self.profile.start()

    def begin(self, section: Section) -> None:
        """The range is the phase's own."""

    def end(self, section: Section) -> None:
        """The range is the phase's own."""

    def end_step(self) -> None:
        """Write the trace after the last step."""
        if self.profile is None or self.current != self.end_at - 1:
            return
        self.profile.stop()
        record_ranges(False)
        self.profile.export_chrome_trace(str(self.path))
        print_once(f"wrote {self.path}: open it in ui.perfetto.dev")
        self.profile = None

    @property
    def done(self) -> bool:
        """True once the trace is written."""
        return self.current >= self.end_at - 1 and self.profile is None
