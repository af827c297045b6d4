"""Features that do not depend on the padding beside an image (`--padding_invariant`).

A convolution reads zeros beyond its input's edge. Beside a smaller image of a batch it reads padding instead, which is
zero at the input but no longer after the first norm's bias. Here padding is set to zero again before every layer that
looks at a cell's neighbours, so the edge of an image looks the same alone, in any batch and on any canvas.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from util.errors import UserError
from util.nested_tensor import NestedTensor

#: Every backbone here ends at a stride of 2^5 at most.
HALVINGS = 5


def mask_pyramid(mask: Tensor) -> list[Tensor]:
    """Padding masks (B, ceil(H/s), ceil(W/s)) for the strides s = 1, 2, 4, ..., 32, from `mask` (B, H, W).

    A layer with stride s, kernel k, dilation d and padding p = d(k-1)/2 makes floor((h + 2p - d(k-1) - 1)/s) + 1 =
    ceil(h/s) cells of h, and cell i looks at the cells around i*s: it belongs to the image where i*s does.
    """
    levels = [mask]
    for _ in range(HALVINGS):
        # [::2] keeps cells 0, 2, 4, ...: ceil(h / 2) of h, as the layers do.
        levels.append(levels[-1][:, ::2, ::2].contiguous())
    return levels


class PaddingEraser:
    """Zeroes the padding in whatever the convolutions and max-pools of `body` read; its parameters and keys stay.

    Layers with a kernel of one cell are left alone: they carry nothing from padding into the image. Max-pools read
    zeros where an image alone has minus infinity around it, which is the same after a ReLU. In training, the statistics
    of `nn.BatchNorm2d` still count padding.

    Raises UserError, naming `flag`, for a network with layers whose output size or values would depend on the canvas.
    """

    def __init__(self, body: nn.Module, *, flag: str) -> None:
        self._masks: list[Tensor] = []
        self._idle = False
        for name, layer in body.named_modules():
            if isinstance(layer, (nn.AdaptiveAvgPool2d, nn.GroupNorm)):
                raise UserError(
                    f"--padding_invariant does not work with {flag}: its layer {name} mixes all cells of a map"
                )
            if not hasattr(layer, "kernel_size"):
                continue
            if not _keeps_centred(layer):
                raise UserError(f"--padding_invariant does not work with {flag}: its layer {name} is {layer}")
            # Hooks and no wrapper: module names, and with them the keys of checkpoints, stay.
            if _pair(layer.kernel_size) != (1, 1):
                layer.register_forward_pre_hook(self._erase)

    def run(self, body: nn.Module, samples: NestedTensor) -> dict[str, NestedTensor]:
        """Feature maps of `samples` by `body`, each with its mask, which covers the cells the image has alone."""
        assert samples.mask is not None, "the padding is erased by its mask"
        self._masks = mask_pyramid(samples.mask)
        try:
            return {name: NestedTensor(x, self._mask_for(x)) for name, x in body(samples.tensors).items()}
        finally:
            self._masks = []  # a later call that brings no mask must not find this one

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Erase nothing inside the block: for a batch that is known to have no padding, where nothing would change."""
        self._idle = True
        try:
            yield
        finally:
            self._idle = False

    def _erase(self, _layer: nn.Module, inputs: tuple[Tensor]) -> Tensor | None:
        if self._idle:
            return None  # the layer reads its inputs as they are
        (x,) = inputs
        return torch.where(self._mask_for(x)[:, None], 0.0, x)  # masked_fill would undo channels-last

    def _mask_for(self, x: Tensor) -> Tensor:
        # The size alone tells the level: it falls with every halving until it is a single cell, which stays the same.
        for mask in self._masks:
            if mask.shape[-2:] == x.shape[-2:]:
                return mask
        size = "x".join(map(str, x.shape[-2:]))
        raise RuntimeError(f"padding_invariant has no mask for features of {size}: call Backbone, not its body")


def _keeps_centred(layer: nn.Module) -> bool:
    """True if an output cell i lies over input cell i * stride for inputs of every size, with stride 1 or 2."""
    if not isinstance(layer, (nn.Conv2d, nn.MaxPool2d)) or isinstance(layer.padding, str):
        return False
    if getattr(layer, "ceil_mode", False) or getattr(layer, "padding_mode", "zeros") != "zeros":
        return False
    sizes = [_pair(layer.kernel_size), _pair(layer.padding), _pair(layer.dilation)]
    # Padding of half the kernel's reach on both sides puts output cell i over input cell i * stride; only strides of 1
    # and 2 have a level in the pyramid.
    return _pair(layer.stride) in ((1, 1), (2, 2)) and all(2 * p == d * (k - 1) for k, p, d in zip(*sizes))


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
