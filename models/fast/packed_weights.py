"""Weights of linear layers laid out once as oneDNN wants them, for inference on the CPU.

oneDNN multiplies by blocks of a weight and puts a plain one into that order in every call: a fifth of the time of a
linear layer of DETR's encoder, whose few hundred cells meet each weight once. Convolutions keep theirs in the same way
(`folded_norm`). The numbers are to the last bit those without packing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

PACK = "_reorder_linear_weight"


@dataclass
class _Packed:
    """Packed weights of one parameter, and how it was then: its numbers are held so that no other get their place."""

    source: Tensor
    version: int
    weights: dict[tuple[int, int, torch.dtype], Tensor] = field(default_factory=dict)

    def is_of(self, parameter: nn.Parameter) -> bool:
        """Tell if the parameter has neither got other memory since then nor been changed in place."""
        return self.source.data_ptr() == parameter.data_ptr() and self.version == parameter._version


#: By parameter, not by module: copies of a model, and its files, know nothing of them.
_kept: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def packed_weight(weight: Tensor, owner: nn.Parameter, dtype: torch.dtype, *, rows: int) -> Tensor:
    """Return a weight (N, K) in the type `dtype`, packed for an x of so many rows; for others it is right, too.

    Kept until the parameter `owner`, which the weight is or is rows of, is changed, or `forget` is called.
    """
    packed = _kept.get(owner)
    if packed is None or not packed.is_of(owner):
        packed = _kept[owner] = _Packed(owner.detach(), owner._version)
    key = (weight.storage_offset(), len(weight), dtype)
    if key not in packed.weights:
        packed.weights[key] = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype), rows)
    return packed.weights[key]


def forget(parameters: Iterable[nn.Parameter]) -> None:
    """Forget what is packed of these: a change through `.data` cannot be seen."""
    for parameter in parameters:
        _kept.pop(parameter, None)
