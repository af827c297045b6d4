"""Event files for TensorBoard: `tensorboard --logdir RUN`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


class TensorBoardLogger:
    """Writes to the folder `tensorboard` in a run's folder.

    Args:
        folder: of the run.
        done: steps of the run so far; what an earlier process wrote beyond them is hidden.
    """

    def __init__(self, folder: Path, *, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # needs the package tensorboard

        # From the next step on: steps after the checkpoint are made again, and would stand there twice.
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Write numbers."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a run that is killed leaves all but its last steps

    def image(self, name: str, path: Path, *, step: int) -> None:
        """Write an image."""
        with Image.open(path) as picture:
            self._writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
