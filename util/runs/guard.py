"""Steps whose loss or gradient is not finite: seen on the device, left out there, and kept for a look at them.

The device leaves a step out by itself: a fused optimizer changes nothing where a flag, `found_inf`, is 1, as under a
loss scaler. So the weights are those before the damage until the host knows of it, and no step waits for the host to
look. An optimizer that is not fused knows no such flag: before its steps the host waits.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..dist.accelerator import accelerator
from ..dist.distributed import get_rank, get_world_size
from ..dist.exchange import own_part
from ..errors import NonFiniteLossError
from ..targets import Target, object_count
from .random_state import RandomState, random_state
from .weights_kept import KeptWeights

#: A run goes back so many times; then something is wrong that other batches do not mend.
MOST_ROLLBACKS = 3
#: Steps left out one after the other until --on_nan skip gives up: no step of the run would be made any more.
MOST_IN_A_ROW = 50

#: What a step is: made; left out because of an earlier one; not finite itself.
SOUND, VOID, BAD = 0, 1, 2


@dataclass
class GuardedStep:
    """A step until it is known to be sound: what it was made from, and its numbers on their way to the host.

    Attributes:
        batches: images and targets on the host, as the loader yielded them.
        random: state of the generators before the forward pass.
        buffers: values before it of those buffers that a forward pass changes.
        names: of the losses.
        objects: of this rank.
        numbers: float32 on the host: of several processes for each if its loss is bad and its objects (2 * ranks), then
            VOID and BAD as two flags, the losses, and the gradient's norm.
        arrived: an event of the GPU; None where the numbers are there.
    """

    batches: Sequence[Any]
    random: RandomState
    buffers: dict[str, Tensor]
    names: list[str] = field(default_factory=list)
    objects: int = 0
    numbers: Tensor | None = None
    arrived: Any = None


def one_if_not_finite(values: Tensor) -> Tensor:
    """Return 1 where one of the values is NaN or infinite, else 0: x - x is 0 for a finite x, and NaN for any other.

    Three small operations on the device, where `isfinite` and what follows it are seven.
    """
    return (values - values).sum().nan_to_num(nan=1.0)


class StepGuard:
    """Watches the steps of one process; every process has one and gives it the same steps.

    Args:
        model: not wrapped.
        optimizer: of its parameters; fused, or the host waits for every step.
        mode: stop: after a bad step nothing changes until the log is read, and raises; skip: only that step is left
            out; rollback: at the next read the weights become those of the last read without a bad step.
        keep: called once, with the first bad step, its numbers and the model's state before it, on the rank whose loss
            it was; the weights are still those that it was made with.
        scaled: float16, whose scaler leaves out steps of gradients that overflow, as it must: only losses count, and
            `judge` comes before the scaler looks at the gradients.
        also: tensors to keep and put back with the weights, such as their average.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        mode: str,
        device: torch.device,
        keep: Callable[[GuardedStep, dict[str, Any], dict[str, Tensor]], None] | None = None,
        scaled: bool = False,
        also: Sequence[Tensor] = (),
    ) -> None:
        self.model, self.optimizer, self.mode, self.device, self.scaled = model, optimizer, mode, device, scaled
        self.keep = keep
        self.kept = KeptWeights(model, optimizer, also) if mode == "rollback" else None
        self.fused = all(group.get("fused") for group in optimizer.param_groups)
        #: True where the caller has to leave the step out, for the optimizer does not by itself.
        self.left_out = False
        self.rollbacks = self.in_a_row = 0
        #: Of each step since the log was read last: SOUND, VOID or BAD.
        self.verdicts: list[int] = []
        self._flag = self._zero = torch.zeros((), device=device)
        self._pending: deque[GuardedStep] = deque()
        norms = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self._buffers = {f"{n}.{name}": b for n, m in norms for name, b in m.named_buffers(recurse=False)}

    @property
    def goes_on(self) -> bool:
        """True where a bad step does not end the run."""
        return self.mode != "stop"

    def before(self, batches: Sequence[tuple[Any, Sequence[Target]]]) -> None:
        """Note what a step is made from; call it before its forward pass."""
        if self.kept is not None and not self.kept.taken:
            self.kept.take()
        buffers = {name: buffer.clone() for name, buffer in self._buffers.items()}
        self._current = GuardedStep(batches, random_state(self.device), buffers)

    def judge(self, losses: dict[str, Tensor], norm: Tensor | None) -> None:
        """Have the optimizer leave out this step if it is bad on any rank; call it before the optimizer's step.

        `norm` is that of the gradient, averaged over the processes. Nothing waits for the device.
        """
        step = self._current
        self._look(step)  # a matcher has waited for the device since the step before: its numbers are here by now
        norm = self._zero if norm is None or self.scaled else norm.detach().float()
        values = torch.stack([*(value.detach().float() for value in losses.values()), norm])  # (losses + 1,)
        step.objects = sum(object_count(target) for _, targets in step.batches for target in targets)
        bad = one_if_not_finite(values)
        ranks: list[Tensor] = []
        if (world := get_world_size()) > 1:
            # (ranks, 2): each fills in its own row, and the sum is the whole. The norm is the same on all of them.
            table = torch.zeros(world, 2, device=self.device)
            table[get_rank(), 0] = one_if_not_finite(values[:-1])
            table[get_rank(), 1] = step.objects
            dist.all_reduce(table)
            ranks, bad = [table.flatten()], torch.maximum(table[:, 0].amax(), bad)
        # No step after a bad one counts until the host has seen it.
        left_out = bad if self.mode == "skip" else torch.maximum(bad, self._flag)
        self._flag = left_out
        # (2 * ranks if there are several, + 2 + losses + 1,): one transfer for everything that the host may want to
        # know.
        numbers = torch.cat([*ranks, left_out[None], bad[None], values])
        # Only CUDA has the event below, which tells when the numbers are there; other devices are waited for.
        on_cuda = accelerator(self.device).cuda
        step.names, step.numbers = list(losses), numbers.to("cpu", non_blocking=on_cuda)
        if on_cuda:
            step.arrived = torch.cuda.Event()
            step.arrived.record()
        self._leave_out(left_out, step.buffers)
        self._pending.append(step)
        self._look(step)

    def _leave_out(self, flag: Tensor, buffers: dict[str, Tensor]) -> None:
        """Make a step whose flag is 1 change nothing: neither weights nor statistics of batch norms."""
        for name, buffer in self._buffers.items():
            # Chosen on the device; an `if` would make the host wait.
            buffer.copy_(torch.where(flag > 0, buffers[name], buffer))
        if not self.scaled:
            if self.fused:
                own_part(self.optimizer).found_inf = flag  # type: ignore[attr-defined]  # fused ones look for it
            else:
                self.left_out = bool(flag)
            return
        # The scaler sets that flag itself, from the gradients; times 1 they stay what they are.
        # NaN in the gradients is what the scaler looks for.
        factor = torch.where(flag > 0, torch.nan, 1.0)
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch._foreach_mul_(gradients, factor)

    def _look(self, current: GuardedStep, *, wait: bool = False) -> None:
        """Take in the steps whose numbers are here; all of them with `wait`."""
        while self._pending:
            step = self._pending[0]
            if step.arrived is not None and not step.arrived.query():
                if not wait:
                    return
                step.arrived.synchronize()
            self._pending.popleft()
            assert step.numbers is not None
            numbers, world = step.numbers.tolist(), get_world_size()
            rows = 2 * world if world > 1 else 0
            left_out, bad, *values = numbers[rows:]
            # In the other modes no step after a bad one counts: only the first is a finding.
            first = bad and (self.mode == "skip" or BAD not in self.verdicts)
            self.verdicts.append(BAD if first else VOID if left_out else SOUND)
            if first and self.keep is not None:
                keep, self.keep = self.keep, None
                guilty = [rank for rank, its_loss in enumerate(numbers[:rows:2]) if its_loss]
                if get_rank() == (guilty or [0])[0]:
                    losses = dict(zip(step.names, values[:-1], strict=True))
                    objects = sum(numbers[1:rows:2]) / world if rows else float(step.objects)
                    state = self.model.state_dict() | current.buffers
                    keep(step, {"losses": losses, "gradient_norm": values[-1], "objects": objects}, state)

    def settle(self) -> list[int]:
        """Wait for the steps so far, and return what each is since the log was read last; every rank calls it."""
        if self._pending:
            self._look(self._current, wait=True)
        return self.verdicts

    def turn_page(self) -> str | None:
        """Begin anew after a read: go back if that is due; return what was done about bad steps, None without any.

        Raises NonFiniteLossError where the run had better end.
        """
        bad, self.verdicts = self.verdicts, []
        for verdict in bad:
            # Verdicts are in the order of steps: a good step between two bad ones begins the count anew.
            self.in_a_row = self.in_a_row + 1 if verdict else 0
        if not any(bad):
            if self.kept is not None:
                # All steps since the last read were good, so this state may be gone back to.
                self.kept.take()
            return None
        if self.kept is None:
            if self.in_a_row >= MOST_IN_A_ROW:
                raise NonFiniteLossError(f"--on_nan skip: {self.in_a_row} steps one after the other were not finite")
            return "left out (--on_nan skip)"
        self.rollbacks += 1
        if self.rollbacks > MOST_ROLLBACKS:
            raise NonFiniteLossError(
                f"--on_nan rollback: not finite again after going back {MOST_ROLLBACKS} times; nothing was saved over "
                "the last good checkpoint. Try a lower --lr"
            )
        self.kept.put_back()
        # The flag of the steps that are undone goes with them.
        self._flag = torch.zeros((), device=self.device)
        return f"back to the weights {len(bad)} steps ago (--on_nan rollback, {self.rollbacks} of {MOST_ROLLBACKS})"
