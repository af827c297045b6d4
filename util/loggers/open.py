"""From the words of --logger to loggers."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UserError
from .guarded import Guarded
from .interface import Logger
from .to_tensorboard import TensorBoardLogger
from .to_wandb import WandbLogger

#: The log in a run's folder, which needs no logger: `RunFolder` writes it.
JSONL = "jsonl"
#: Names that --logger takes; beside the log each is also the package that it needs.
NAMES = (JSONL, "tensorboard", "wandb")


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names in --logger. Raises UserError for one that is unknown or whose package is missing."""
    names = tuple(dict.fromkeys(filter(None, (word.strip() for word in text.split(",")))))
    for name in names:
        if name not in NAMES:
            raise UserError(f"--logger {name}: unknown; there are {', '.join(NAMES)}, several with commas between them")
        if name != JSONL and importlib.util.find_spec(name) is None:
            raise UserError(f"--logger {name} needs a package that is not installed: pip install {name}")
    if not names:
        raise UserError(f"--logger {text!r}: name at least one of {', '.join(NAMES)}")
    return names


def open_loggers(
    names: Sequence[str],
    folder: Path,
    *,
    done: int,
    group: str | None = None,
    id_: str | None = None,
    config: Mapping[str, Any],
) -> list[Guarded]:
    """Open the dashboards among `names` for a run's folder, `done` steps into the run.

    Args:
        group, id_: of the run in W&B.
        config: flags of the run, in plain types.
    """
    # Made inside of `Guarded`: a log-in that fails is no reason to stop either.
    makers: dict[str, Callable[[], Logger]] = {
        "tensorboard": partial(TensorBoardLogger, folder, done=done),
        "wandb": partial(WandbLogger, folder, done=done, group=group, id_=id_, config=config),
    }
    return [Guarded(name, make) for name, make in makers.items() if name in names]
