"""A run under watch: its numbers and images go to the dashboards of --logger, images also to its folder."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from building import Setup, without_wrapper
from util.draw.sheets import draw_evaluation
from util.loggers.guarded import Guarded
from util.loggers.names import epoch_values, step_values
from util.loggers.open import open_loggers, parse_names
from util.metrics import StepLog
from util.profiling.batch_shapes import BatchShapes
from util.progress import Progress
from util.runs.plain import to_plain
from util.runs.schedule import is_alpha

from .evaluation import Measured


class Watching:
    """Sends what a run measures to its dashboards; in the process that writes files, others send nothing.

    Args:
        run: with the flags --logger and --log_images.
        loggers: the open dashboards.
    """

    def __init__(self, run: Setup, loggers: list[Guarded]) -> None:
        self.run, self.loggers = run, loggers

    def beside(self, watch: Callable[[StepLog, BatchShapes], None]) -> Callable[[StepLog, BatchShapes], None]:
        """Return what `StepContext.watch` calls: `watch`, and this.

        Steps are sent when the log reads the device, which is when their numbers are on the host anyway.
        """

        def both(log: StepLog, shapes: BatchShapes) -> None:
            watch(log, shapes)
            if self.loggers:
                # For each epoch anew: it has a log of its own.
                log.on_read = partial(self._steps, log.progress)

        return both

    def _steps(self, progress: Progress, means: Mapping[str, float]) -> None:
        values = step_values(means, step=progress.done)
        for logger in self.loggers:
            logger.log(values, step=progress.done)

    def epoch(self, row: Mapping[str, Any], measured: Measured | None) -> None:
        """Send an epoch's row of log.txt, and draw its evaluation where --log_images asks for it."""
        step, cfg = row["global_step"], self.run.cfg
        values = epoch_values(row) if self.loggers else {}
        for logger in self.loggers:
            logger.log(values, step=step)
        # Epochs count from 0: N = 5 draws after the fifth.
        if self.run.folder is None or measured is None or not cfg.log_images or (row["epoch"] + 1) % cfg.log_images:
            return
        path = self.run.folder / "images" / f"{row['epoch']:04}.png"
        draw_evaluation(path, self.run.data.val, measured.evaluator)
        for logger in self.loggers:
            logger.image("val-predictions", path, step=step)


@contextmanager
def watch(run: Setup, *, done: int) -> Iterator[Watching]:
    """Open the dashboards of a run, `done` steps into it, and close them at its end, whatever ends it."""
    loggers: list[Guarded] = []
    if run.folder is not None:
        flags = {"group": run.cfg.wandb_group, "id_": run.cfg.wandb_id, "config": to_plain(run.cfg)}
        loggers = open_loggers(parse_names(run.cfg.logger), run.folder, done=done, **flags)
    try:
        yield Watching(run, loggers)
    finally:
        for logger in loggers:
            logger.close()


def alphas_of(model: nn.Module) -> dict[str, Any]:
    """Return the alphas that a model's attentions have learned, for a row of the log; nothing where none learns."""
    model = without_wrapper(model)
    if not any(is_alpha(name) for name, _ in model.named_parameters()):
        return {}
    from models.variants.sparse_attention import learned_alphas  # a variant, which few runs have

    return {"alpha": learned_alphas(model)}
