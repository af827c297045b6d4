"""The backbone's feature maps together with their position encodings, which the transformer takes."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from util.dist.precision import wide_dtype
from util.nested_tensor import NestedTensor


class LazyEncodings(Sequence[Tensor]):
    """Position encodings of feature maps, each computed when it is asked for: DETR itself asks for the last only."""

    def __init__(self, encode: nn.Module, features: Sequence[NestedTensor]) -> None:
        self._encode = encode
        self._features = features

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        features = self._features[index]
        # (B, D, h, w) in float32: a model in float64 needs it as wide, and under autocast it must not be rounded.
        return self._encode(features).to(wide_dtype(features.tensors))


class Joiner(nn.Sequential):
    """Backbone, then position encoding: what the transformer needs of a batch of images.

    The backbone may be any module that returns a dictionary of batches, with `num_channels` there or set here.
    """

    num_channels: int

    def __init__(self, backbone: nn.Module, position_embedding: nn.Module) -> None:
        super().__init__(backbone, position_embedding)
        if isinstance(channels := getattr(backbone, "num_channels", None), int):
            self.num_channels = channels

    def forward(self, samples: NestedTensor) -> tuple[list[NestedTensor], Sequence[Tensor]]:
        """Feature maps (B, C, h, w), finest first, and as many encodings (B, D, h, w)."""
        # Numbered children, as in the original: `backbone.0.body...` is the key of every published checkpoint.
        features = list(self[0](samples).values())
        return features, LazyEncodings(self[1], features)
