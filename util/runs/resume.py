"""Going on with a run: the optimizer's state and the best AP of the checkpoint that is resumed."""

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from ..dist.distributed import print_once
from ..errors import CheckpointError
from .plan import is_training_state

#: What the optimizer's state brings along on --resume, whatever the command line says.
KEPT_ON_RESUME = ("lr", "lr_backbone", "weight_decay")


def restore_optimizer(optimizer: Optimizer, checkpoint: Mapping[str, Any] | None, *, flags: Mapping[str, Any]) -> float:
    """Load the optimizer's state of a training run's checkpoint and return the best AP so far.

    Nothing is loaded from None or from weights alone; the best AP is then minus infinity. A line says which of `flags`,
    by name, give way to the checkpoint's. Raises CheckpointError when the optimizer's state is of another model.
    """
    if checkpoint is None or not is_training_state(checkpoint):
        return -math.inf
    try:
        optimizer.load_state_dict(checkpoint["optimizer"])
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"--resume: the optimizer's state does not fit this model and these flags ({error})"
        ) from error
    for name in KEPT_ON_RESUME:
        saved = checkpoint.get("args", {}).get(name)
        if saved is not None and saved != flags[name]:
            print_once(f"--resume keeps --{name} {saved} of the checkpoint, not {flags[name]}; --init_from starts anew")
    return checkpoint.get("best_ap", -math.inf)
