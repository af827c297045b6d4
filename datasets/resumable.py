"""A loader that can begin in the middle of an epoch, and there draws what it would have drawn without the break.

Workers draw their random numbers (mirrors, crops, ...) one batch after the other: the numbers of batch 900 depend on
all batches that its worker has made before. So each batch brings along the state of its worker's generators, and a pass
that begins at batch 900 starts its workers with the states that the batches before it brought. Nothing is loaded
twice.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch.utils.data import DataLoader, Sampler, get_worker_info

from util.dist.distributed import print_once
from util.runs.random_state import RandomState, random_state, set_random_state

#: State of each worker after its last batch that was trained on; None for one that has none yet.
WorkerStates = Sequence[RandomState | None]


class OrderFrom(Sampler[int]):
    """The order of another sampler from its image number `start` on; its length stays that of all."""

    def __init__(self, order: Any) -> None:
        self.order = order
        self.start = 0

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        for number, index in enumerate(self.order):
            if number >= self.start:
                yield index

    def __getattr__(self, name: str) -> Any:
        # `seed`, `rank`, `set_epoch`, ...; through __dict__, because a copy is asked before it has any.
        return getattr(self.__dict__["order"], name)


@dataclass(frozen=True)
class _Made:
    """A worker's state after a batch; no tuple, which pinning of memory would take apart."""

    state: RandomState


@dataclass(frozen=True)
class _WithState:
    """Makes a batch, and in a worker notes the state of its generators."""

    collate: Callable

    def __call__(self, examples: Any) -> Any:
        batch = self.collate(examples)
        return batch if get_worker_info() is None else (batch, _Made(random_state()))


@dataclass
class _Start:
    """Starts a worker, and brings its generators to the state that it is to begin with."""

    begin: Callable[[int], None]
    states: WorkerStates = ()

    def __call__(self, worker: int) -> None:
        self.begin(worker)
        state = self.states[worker] if self.states else None
        if state is not None:
            set_random_state(state)


class ResumableLoader(DataLoader):
    """A DataLoader whose next pass may begin at any batch.

    Without workers transforms draw from the process's own generators, whose state the caller keeps.

    Attributes:
        states: of the workers after the batches that were yielded so far.
    """

    def __init__(self, dataset: Any, *, sampler: Any, collate_fn: Callable, worker_init_fn: Callable, **more: Any):
        self.first = 0
        self.unused = 0
        super().__init__(
            dataset,
            sampler=OrderFrom(sampler),
            collate_fn=_WithState(collate_fn),
            worker_init_fn=_Start(worker_init_fn),
            **more,
        )
        self.states: list[RandomState | None] = [None] * self.num_workers

    def begin_at(self, batch: int, states: WorkerStates | None = None) -> None:
        """Make the next pass begin at a batch of the epoch.

        Args:
            batch: number of the first batch, from 0.
            states: of the workers when they had made the batches before; None if they are not known.
        """
        self.first, self.unused = batch, 0
        self.states = [None] * self.num_workers
        if states is not None and len(states) != self.num_workers:
            print_once(
                f"--num_workers {self.num_workers}, not {len(states)}: the rest of the epoch is augmented with other "
                "random numbers"
            )
        elif states is not None and None not in states:
            self.states = list(states)
        elif self.num_workers and batch:
            # Some worker has no state yet, in the first few batches: they are made again for the numbers they draw.
            self.first, self.unused = 0, batch

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override] # a generator over DataLoader's own iterator
        first, unused, workers = self.first, self.unused, self.num_workers
        # In images, which the sampler counts.
        cast(OrderFrom, self.sampler).start = first * (self.batch_size or 1)
        # The batches go to workers in turn, from worker 0: it is the one that batch `first` belongs to.
        turned = [self.states[(first + worker) % workers] for worker in range(workers)]
        cast(_Start, self.worker_init_fn).states = turned
        batches = super().__iter__()
        try:
            for number, made in enumerate(batches, start=first):
                batch = made
                if workers:
                    batch, after = made
                    # The state comes with the batch, not when it is made: workers are batches ahead of the training.
                    self.states[number % workers] = after.state
                if number >= unused:
                    yield batch
        except Exception as error:
            # The error and its traceback hold each other, and with them this pass. A program that goes on after it
            # would wait ten seconds for its workers when Python finds that circle: by then they cannot be told to end.
            # So the calls in the traceback, which have ended, let go of the pass: without it its workers end now.
            if workers:
                traceback.clear_frames(error.__traceback__)
                del batches
            raise
