"""Batch norms that never change, and convolutions that do the work of the one behind them (Ioffe and Szegedy 2015).

A frozen norm multiplies every channel by a constant and adds another. So does the convolution before it, once its
weight is multiplied by the same constants: the feature map is written once instead of twice, and in training read and
kept once less. While a weight trains it has to be multiplied in every step: that pays where the map is larger.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.dist.precision import product_dtype

from .joined_conv import Join, joined_conv, pack_weight
from .joined_training import joined_conv_with_gradients
from .pointwise import pointwise_conv, suits_products


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters are constants (buffers, so no optimiser touches them).

    y = x * s + (bias - running_mean * s) with s = weight / sqrt(running_var + eps). After `fold_frozen_norms` the
    convolution before it computes this, and the norm returns its input.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, n: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(n))
        self.register_buffer("bias", torch.zeros(n))
        self.register_buffer("running_mean", torch.zeros(n))
        self.register_buffer("running_var", torch.ones(n))
        self.folded = False
        self._constants: tuple[tuple, tuple[Tensor, Tensor]] | None = None

    # `.to()`, `.half()` and the like come by here: the constants would be on the old device.
    def _apply(self, *args, **kwargs) -> "FrozenBatchNorm2d":
        self._constants = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        # Weights of an ordinary batch norm count their batches; a frozen one has no use for it.
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W) with the stored statistics."""
        return x if self.folded else self.normalize(x)

    def normalize(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W) even if the convolution before was to do it."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """s (C, 1, 1, 1), as a weight is multiplied by it, and bias - running_mean * s (C,).

        They are kept until a buffer changes: five operators on a few hundred numbers are five launches on a GPU.
        """
        buffers = (self.weight, self.bias, self.running_mean, self.running_var)
        if torch.compiler.is_compiling() or any(buffer.is_inference() for buffer in buffers):
            return self._scale_and_shift()
        # By identity and by the count of changes in place.
        state = tuple((id(buffer), buffer._version) for buffer in buffers)
        if self._constants is None or self._constants[0] != state:
            with torch.no_grad():
                self._constants = state, self._scale_and_shift()
        return self._constants[1]

    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale[:, None, None, None], self.bias - self.running_mean * scale


class NormedConv2d(nn.Conv2d):
    """A convolution without bias and the frozen norm behind it as one; parameters, buffers and their names stay.

    Gradients are those of the two layers: the weight's passes through the multiplication. Where none is wanted the
    product is kept until weight or norm change, are loaded or moved, or the network is switched between training and
    evaluation.
    """

    def __init__(self, convolution: nn.Conv2d, norm: FrozenBatchNorm2d) -> None:
        names = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
        # On "meta" so that nothing is drawn: the weight is the convolution's.
        sizes = {name: getattr(convolution, name) for name in names} | {"bias": False, "device": "meta"}
        super().__init__(convolution.in_channels, convolution.out_channels, **sizes)
        self.weight = convolution.weight
        self._norm = (norm,)  # in a tuple: it is the network's child, not this one's
        self._kept: tuple[tuple, tuple[Tensor, Tensor]] | None = None

    def forward(self, x: Tensor, *, join: Join | None = None) -> Tensor:
        """Convolve and normalise (B, C, H, W); `join`, where `can_join` allows it, is done in the same pass."""
        if join is not None and torch.is_grad_enabled():
            return self._join_with_gradients(x, join)
        if join is not None:
            x = x.to(product_dtype(x))
            weight, bias = (t.to(x.dtype) for t in self._weight_and_bias(packed_for=x.shape))
            return joined_conv(x, weight, bias, self, join)
        # `keep_product` has been called: weight and bias are those of both layers.
        if self.bias is not None:
            return super().forward(x)
        if self._trains() and not torch.compiler.is_compiling() and self._map_size(x) < self.weight.numel():
            # Scaling the weight costs as many products as it has numbers; the norm as many as the map has.
            return self._norm[0].normalize(self._conv_forward(x, self.weight, None))
        weight, bias = self._weight_and_bias()
        if self._trains() and not torch.compiler.is_compiling() and self._suits_products(x):
            # As autocast would cast them: once, and the weight's gradient comes back in its own type.
            x, weight, bias = (t.to(product_dtype(x)) for t in (x, weight, bias))
            return pointwise_conv(x, weight, bias, stride=self.stride)
        return self._conv_forward(x, weight, bias)

    @torch.no_grad()
    def keep_product(self) -> None:
        """Become an ordinary convolution with a bias, which no longer follows its norm."""
        if self.bias is None:
            weight, bias = self._weight_and_bias()
            self.weight, self.bias = nn.Parameter(weight.clone(), False), nn.Parameter(bias.clone(), False)

    def train(self, mode: bool = True) -> "NormedConv2d":
        """Switch to training or evaluation, and forget the product."""
        self._kept = None
        return super().train(mode)

    def _apply(self, *args, **kwargs) -> "NormedConv2d":
        self._kept = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._kept = None
        super()._load_from_state_dict(*args, **kwargs)

    def _join_with_gradients(self, x: Tensor, join: Join) -> Tensor:
        dtype = product_dtype(x)
        if self._trains() and self._map_size(x) < self.weight.numel():  # as in `forward`
            out = self.forward(x)
            return F.relu(out if join.add is None else out.add_(join.add), inplace=True)
        products = self._trains() and self._suits_products(x)
        x, weight, bias = (t.to(dtype) for t in (x, *self._weight_and_bias()))
        return joined_conv_with_gradients(x, weight, bias, self, add=join.add, products=products)

    def _suits_products(self, x: Tensor) -> bool:
        dtype, groups = product_dtype(x), self.groups
        return suits_products(x, self.weight, stride=self.stride, padding=self.padding, groups=groups, dtype=dtype)

    def _trains(self) -> bool:
        return torch.is_grad_enabled() and self.weight.requires_grad

    def _map_size(self, x: Tensor) -> int:
        """About how many numbers the feature map of (B, C, H, W) has."""
        return x.numel() // self.in_channels * self.out_channels // (self.stride[0] * self.stride[1])

    def __getstate__(self) -> dict:
        # A packed weight cannot be copied, and a copy makes its own.
        return self.__dict__ | {"_kept": None}

    def _weight_and_bias(self, *, packed_for: torch.Size | None = None) -> tuple[Tensor, Tensor]:
        """Weight and bias of both layers; what is kept may be packed for maps of a size (B, C, H, W)."""
        norm, weight = self._norm[0], self.weight
        if torch.compiler.is_compiling():
            return self._fold()
        # A tensor counts its changes, but not those of a fused optimizer, which only changes what has a gradient;
        # and one made in inference mode counts none.
        changes = self._trains() or weight.grad is not None
        if changes or weight.is_inference() or norm.weight.is_inference():
            self._kept = None
            return self._fold()
        constants = (weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        # `_version` grows with every change in place; a new tensor in its place comes by way of the methods above.
        state = (product_dtype(weight), packed_for is None, *(t._version for t in constants))
        if self._kept is None or self._kept[0] != state:
            with torch.no_grad():
                folded, bias = (t.to(product_dtype(weight)) for t in self._fold())
                if packed_for is not None:
                    folded = pack_weight(folded, self, packed_for)
                self._kept = state, (folded, bias)
        return self._kept[1]

    def _fold(self) -> tuple[Tensor, Tensor]:
        scale, shift = self._norm[0].scale_and_shift()
        # (out, in / groups, k, k) * (out, 1, 1, 1): one constant for each output channel.
        return self.weight * scale, shift


def fold_frozen_norms(network: nn.Module) -> int:
    """Have every convolution without bias that a frozen norm follows do the norm's work; return how many there are.

    Layers follow each other in the order in which a module lists its children, as torchvision's networks have it.
    """
    pairs = [
        (parent, name, layer, norm)
        for parent in network.modules()
        for (name, layer), (_, norm) in pairwise(parent.named_children())
        if type(layer) is nn.Conv2d and layer.bias is None and isinstance(norm, FrozenBatchNorm2d)
    ]
    for parent, name, convolution, norm in pairs:
        # The norm stays in the network for its buffers and its names, and from now on passes its input on.
        setattr(parent, name, NormedConv2d(convolution, norm))
        norm.folded = True
    return len(pairs)


def keep_products(network: nn.Module) -> int:
    """Have every convolution that does its norm's work keep the product for good; return how many there are.

    For a model that leaves this project (`export.py`), whose file should hold what is computed with. It cannot go on
    training, and its state dict is no longer DETR's.
    """
    folded = [module for module in network.modules() if isinstance(module, NormedConv2d)]
    for convolution in folded:
        convolution.keep_product()
    return len(folded)
