"""Weights & Biases, online or (`WANDB_MODE=offline`) into a folder that `wandb sync` uploads."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: File in a run's folder with the run's id, by which it is resumed.
ID_FILE = "wandb_id.txt"
#: Seconds to wait for the first answer, and for the upload at the end of a run.
PATIENCE = 60.0


class WandbLogger:
    """Writes to one W&B run, which goes on when the training is resumed.

    Project, entity and account are those of W&B's own variables and files (`WANDB_PROJECT`, `wandb login`).

    Args:
        folder: of the run; its name is the run's.
        done: steps of the run so far; with 0 it is a new W&B run, unless `id_` is given.
        group: of runs that belong together; None for none.
        id_: of the W&B run; None: that of the folder, or a new one.
        config: flags of the run.
    """

    def __init__(
        self, folder: Path, *, done: int, group: str | None, id_: str | None, config: Mapping[str, Any]
    ) -> None:
        import wandb  # a large package that few need

        self._wandb = wandb
        kept = folder / ID_FILE
        # With no step done it is a new training in an old folder, and no part of that run.
        if id_ is None and done and kept.is_file():
            id_ = kept.read_text().strip()
        settings = wandb.Settings(init_timeout=PATIENCE)
        if hasattr(settings, "finish_timeout"):  # of newer versions: without it a lost connection would hold the end
            settings.finish_timeout = PATIENCE
        id_ = id_ or secrets.token_hex(4)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "detr"),
            dir=str(folder),
            id=id_,
            name=folder.resolve().name,
            group=group,
            config=dict(config),
            allow_val_change=True,  # a run may go on with more epochs
            resume="allow",
            settings=settings,
        )
        kept.write_text(f"{id_}\n")
        # One axis for all, of steps and not of calls.
        self._run.define_metric("global_step")
        self._run.define_metric("*", step_metric="global_step")

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Send numbers."""
        self._run.log({**values, "global_step": step})

    def image(self, name: str, path: Path, *, step: int) -> None:
        """Send an image."""
        self._run.log({name: self._wandb.Image(str(path)), "global_step": step})

    def close(self) -> None:
        """End this process's part of the run."""
        self._run.finish()
