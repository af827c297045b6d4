"""Losses of many steps: collected on the device, averaged over processes, checked and shown every few steps.

Reading a number from a GPU makes the host wait for it, so a step only stacks its scalars; every `print_freq` steps
one transfer brings them all, and that is also where a loss that is not finite is found and named.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from .dist.accelerator import accelerator
from .dist.distributed import all_gather, get_world_size, reduce_mean
from .dist.memory import peak_memory
from .errors import NonFiniteLossError
from .progress import Progress
from .runs.guard import BAD, SOUND, StepGuard
from .runs.pace import Pace

#: Times and memory of a training epoch.
TIMES = ("step_time", "data_time", "max_memory", "host_memory", "images_per_second", "data_share")
#: Averages of a training epoch that are measured and not computed: two equal runs differ in them.
MEASURED = (*TIMES, "mfu")
#: Learning rates of an optimizer's groups, in their order; groups beyond these have none in the log.
RATES = ("lr", "lr_backbone", "lr_alpha")


class StepLog:
    """The losses, if there are any, and times of the steps of one pass over a loader.

    Args:
        header: the beginning of a line, `Epoch: [3]` or `Test:`.
        weight_dict: weight of each loss in the total.
        print_freq: steps between two reads of the device, and between two lines.
        progress: prints the lines, and counts the steps.

    Attributes:
        on_read: called with the means of the steps read, after each read; None: nobody asks.
    """

    def __init__(self, *, header: str, weight_dict: dict[str, float], print_freq: int, progress: Progress) -> None:
        self.header = header
        self.weight_dict = weight_dict
        self.print_freq = print_freq
        self.progress = progress
        self.names: list[str] = []
        self.unread: list[Tensor] = []
        self.image_ids: list[list[int]] = []
        self.sums: list[float] = []
        self.steps = 0
        self.rates: dict[str, list[float]] = {}
        self.norms: list[float] = []  # of the gradient, where it is finite
        self.images = 0
        self.on_read: Callable[[dict[str, float]], None] | None = None
        self.times: list[float] = []
        self.waits: list[float] = []
        self.seconds = 0.0
        self.device = torch.device("cpu")
        #: Leaves out steps that are not finite; None: they are looked for here alone.
        self.guard: StepGuard | None = None
        self.bad_steps = 0
        self.pace = Pace()

    def each(self, loader: Iterable, steps: int, *, ended: Callable[[], bool] = lambda: False) -> Iterator:
        """Yield the next `steps` batches of a loader; time the wait for data and the steps, and read in between.

        They follow those of `restore`. No further batch is yielded once `ended`, which is asked after every step,
        returns True.
        """
        batches = iter(loader)
        # Counted from the beginning of the epoch: lines and reads are where they would be without a break.
        made, steps, before = len(self.times), len(self.times) + steps, self.seconds
        began = last = time.perf_counter()
        for step in range(made + 1, steps + 1):
            batch = next(batches)
            self.waits.append(time.perf_counter() - last)
            yield batch
            self.times.append(time.perf_counter() - last)
            self.progress.advance()
            if step % self.print_freq == 0 or step == steps:
                self._read(steps)
            # On a GPU a step is done only when it has been read: over the pass that counts every step whole.
            self.seconds = before + time.perf_counter() - began
            done, ends = time.perf_counter(), ended()
            seconds = {"data": self.waits[-1], "computing": self.times[-1] - self.waits[-1]}
            if self.rates and (slow := self.pace.look(step - 1, **seconds, after=time.perf_counter() - done)):
                self.progress.note(f"{self.header}  {slow}")
            if ends:
                break
            last = time.perf_counter()

    def add(
        self,
        losses: dict[str, Tensor],
        image_ids: Sequence[int],
        *,
        rates: Sequence[float] = (),
        grad_norm: Tensor | None = None,
    ) -> None:
        """Note a step's losses and its gradient's norm (scalars on the device), its images, and its learning rates.

        `rates` are those of the optimizer's groups, named as in RATES; a step of an evaluation has none.
        """
        self.names = list(losses)  # the same in every step, so that steps can be stacked to (steps, losses)
        self.device = losses[self.names[0]].device
        values = [losses[name].detach().float() for name in self.names]
        if rates:
            # The last column, NaN where nobody computed it: one transfer brings both.
            values.append(values[0].new_full((), math.nan) if grad_norm is None else grad_norm.detach().float())
        # (losses,) or, with the norm, (losses + 1,): still on the device.
        self.unread.append(torch.stack(values))
        self.image_ids.append(list(image_ids))
        self.images += len(image_ids)
        for name, rate in zip(RATES, rates):
            self.rates.setdefault(name, []).append(rate)

    def state(self) -> dict[str, Any]:
        """Return what is known of the steps so far in plain types, for a checkpoint within the pass; reads the device.

        Losses that were not read yet stay apart from the sums: added up in other portions, the last bit could differ.
        """
        own = "names sums steps rates norms images times waits seconds image_ids bad_steps".split()
        unread = torch.stack(self.unread).tolist() if self.unread else []  # (steps, losses), of this process alone
        return {name: deepcopy(getattr(self, name)) for name in own} | {"unread": unread}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on after the steps of `state`, which become the first of this pass."""
        for name, value in state.items():
            setattr(self, name, deepcopy(value))
        if "rates" not in state:  # of an earlier version, which kept one rate and no norms
            self.rates = {"lr": list(state["lr"])} if state["lr"] else {}
        width = len(self.names) + bool(self.rates)
        rows = [[*row, math.nan][:width] for row in state["unread"]]
        self.device = device
        self.unread = list(torch.tensor(rows, device=device)) if rows else []

    def averages(self) -> dict[str, float]:
        """Means over all steps with DETR's names: `loss`, each weighted loss, `<name>_unscaled`, and `class_error`.

        Of training steps, which have learning rates, also those of RATES, `grad_norm` before it is clipped, where it
        is, and those of TIMES: seconds a step (with its wait for data), seconds of that wait, the peaks of memory
        so far in MiB, of the device and of this process, images a second of all processes, and the part of the time
        that was spent waiting for data.
        """
        means = {name: total / max(1, self.steps) for name, total in zip(self.names, self.sums)}
        rates = {name: sum(values) / len(values) for name, values in self.rates.items()}
        norm = {"grad_norm": sum(self.norms) / len(self.norms)} if self.norms else {}
        unscaled = {f"{name}_unscaled": mean for name, mean in means.items()}
        measured = self._measured() if rates else {}
        bad = {"bad_steps": float(self.bad_steps)} if self.guard is not None and self.guard.goes_on else {}
        return rates | _class_error(means) | self._weighted(means) | unscaled | norm | measured | bad

    def _measured(self) -> dict[str, float]:
        steps, seconds = max(1, len(self.times)), max(self.seconds, 1e-9)
        waited, images = sum(self.waits[:steps]), self.images * get_world_size()
        memory = (peak_memory(self.device), peak_memory(torch.device("cpu")))
        # Images of all processes by this one's clock: they step together.
        return dict(zip(TIMES, (seconds / steps, waited / steps, *memory, images / seconds, waited / seconds)))

    def _weighted(self, values: dict[str, float]) -> dict[str, float]:
        weighted = {n: v * self.weight_dict[n] for n, v in values.items() if n in self.weight_dict}
        return {"loss": sum(weighted.values())} | weighted if values else {}

    def _read(self, steps: int) -> None:
        """Read the device, once for many steps: bring the losses home, check them, add them up, show a line."""
        rows = self._take_out_bad(*self._rows_and_faults())
        # `zip` ends with the shortest: the column of the norm, behind the losses, falls away here.
        self.sums = [sum(column) for column in zip(self.sums or [0.0] * len(self.names), *rows)]
        self.steps += len(rows)
        width = len(self.names)
        self.norms += [norm for row in rows for norm in row[width:] if math.isfinite(norm)]
        loss = f" loss {self.averages()['loss']:.3f}" if self.names else ""
        self.progress.show(self._line(rows, steps), short=f"{self.header}{loss}")
        if self.on_read is not None and rows:
            self.on_read(self._window(rows))
        self.unread.clear()
        self.image_ids.clear()

    def _window(self, rows: list[list[float]]) -> dict[str, float]:
        """Return what `averages` does, of the rows (steps, losses and norm) read last alone."""
        part = StepLog(header="", weight_dict=self.weight_dict, print_freq=1, progress=self.progress)
        last = slice(-len(rows), None)
        part.names, part.steps, part.device = self.names, len(rows), self.device
        part.sums = [sum(column) for column in zip(*rows)][: len(self.names)]
        part.norms = [norm for row in rows for norm in row[len(self.names) :] if math.isfinite(norm)]
        part.rates = {name: values[last] for name, values in self.rates.items()}
        part.times, part.waits = self.times[last], self.waits[last]
        part.seconds, part.images = sum(part.times), sum(map(len, self.image_ids))
        return part.averages()

    def check(self) -> None:
        """Look at the losses that were not read yet, and leave them unread. Every process calls it together.

        Raises NonFiniteLossError.
        """
        self._rows_and_faults()

    def _rows_and_faults(self) -> tuple[list[list[float]], list[str]]:
        """Read the losses (steps, losses), means over the processes, that were not read yet; name what is not finite.

        Raises NonFiniteLossError unless a guard leaves such steps out.
        """
        # (steps, losses): one exchange and one transfer for all steps since the last read.
        rows = reduce_mean(torch.stack(self.unread)).cpu().tolist() if self.unread else []
        faults = self._faults(rows)
        if faults and not (self.guard is not None and self.guard.goes_on):
            raise NonFiniteLossError(
                f"{faults[0]}; nothing was saved over the last good checkpoint. Try a lower --lr, and look at the "
                "boxes of these images"
            )
        return rows, faults

    def _take_out_bad(self, rows: list[list[float]], faults: Sequence[str]) -> list[list[float]]:
        """Return the rows of steps that were made, after a line for each that was not finite; every rank calls it."""
        if self.guard is None:
            return rows
        kept = [row for row, verdict in zip(rows, self._verdicts(rows)) if not verdict]
        self.bad_steps += len(faults)
        done = self.guard.turn_page() or "left out"
        for fault in faults:
            self.progress.note(f"{fault}: {done}; {self.bad_steps} in this epoch")
        return kept

    def _verdicts(self, rows: list[list[float]]) -> list[int]:
        """Return SOUND, VOID or BAD for each row; those that a checkpoint brought have no verdict of a guard."""
        known = [] if self.guard is None else self.guard.settle()
        # Filled up in front: rows that a checkpoint brought are the oldest.
        verdicts = ([SOUND] * len(rows) + known)[-len(rows) :] if rows else []
        width = len(self.names)  # beside the losses stands the norm, which may overflow under a scaler
        # A verdict stands; without one, as for losses of a rank that was resumed, the numbers decide.
        return [
            v or (SOUND if all(map(math.isfinite, row[:width])) else BAD) for v, row in zip(verdicts, rows, strict=True)
        ]

    def _faults(self, rows: list[list[float]]) -> list[str]:
        """Name the losses, the step and the images of all ranks, for each row that is not finite."""
        faults = []
        for i, (row, verdict) in enumerate(zip(rows, self._verdicts(rows))):
            if verdict != BAD:
                continue
            bad = [name for name, value in zip(self.names, row) if not math.isfinite(value)]
            # The means are not finite on any rank; each looks at its own numbers for the images. A gradient is all's.
            innocent = bool(bad) and bool(self.unread[i][: len(self.names)].isfinite().all())
            ids = sorted(j for ids in all_gather([] if innocent else self.image_ids[i]) for j in ids)
            named = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
            # Counted from 0, of the epoch: `times` has the steps so far, and these are the last ones.
            step = len(self.times) - len(rows) + i
            faults.append(f"{self.header} step {step}: {named or 'the gradient is'} not finite, on image ids {ids}")
        return faults

    def _line(self, rows: list[list[float]], steps: int) -> str:
        """Return DETR's line: position, time left, `median (mean)` of the main quantities, times, and GPU memory."""
        # Of the steps of this line; the means beside them, in brackets, are of the whole epoch, as in DETR.
        medians = dict(zip(self.names, map(statistics.median, zip(*rows))))
        means, last = self.averages(), self.times[-(len(rows) or self.print_freq) :]
        shown = _class_error(medians) | self._weighted(medians)
        parts = [f"{self.header}  [{len(self.times):{len(str(steps))}d}/{steps}]", f"eta: {self.progress.eta()}"]
        parts += [f"lr: {self.rates['lr'][-1]:.6f}"] if self.rates else []
        # Without the losses of earlier decoder layers, whose names end in the layer's number.
        parts += [f"{n}: {v:.4f} ({means[n]:.4f})" for n, v in shown.items() if not n[-1].isdigit()]
        parts += [f"time: {statistics.median(last):.4f}"]
        parts += [f"data: {statistics.median(self.waits[-len(last) :]):.4f}"]
        if accelerator(self.device).peak_memory(self.device) is not None:  # of the host, every process has its own
            parts += [f"max mem: {peak_memory(self.device):.0f}"]
        return "  ".join(parts)


def _class_error(values: dict[str, float]) -> dict[str, float]:
    """Keep DETR's percentage of wrong classes; a criterion of the caller's own may not compute it."""
    return {"class_error": values["class_error"]} if "class_error" in values else {}
