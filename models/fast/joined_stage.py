"""A ResNet's stem and stages, which on the CPU join each convolution with what follows it (`joined_conv`)."""

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock, Bottleneck

from util.dist.precision import product_dtype

from .folded_norm import FrozenBatchNorm2d, NormedConv2d
from .joined_conv import Join, can_join

#: The first children of a ResNet.
STEM = ["conv1", "bn1", "relu"]


class JoinedNetwork(IntermediateLayerGetter):
    """A network up to the last of some maps, which it returns by name; a ResNet's stem takes its ReLU along."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps of images (B, 3, H, W)."""
        names = list(self)
        joins = names[:3] == STEM and _joined_dtype(x) is not None
        if not (joins and all(_can_be_skipped(self[name]) for name in STEM)):
            return super().forward(x)
        # With norm and ReLU in it: the two modules behind it are passed over.
        x, maps = self["conv1"](x, join=Join()), {}
        for name in names[3:]:
            x = self[name](x)
            if name in self.return_layers:
                maps[self.return_layers[name]] = x
        return maps


class JoinedStage(nn.Sequential):
    """Blocks of a ResNet one after the other; parameters and their names stay."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks over (B, C, H, W)."""
        dtype = _joined_dtype(x)
        if dtype is None or not all(module is self or _can_be_skipped(module) for module in self.modules()):
            return super().forward(x)
        x = x.to(dtype)
        if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.parameters())):
            for block in self:
                x = _train_block(block, x)
            return x
        with torch.no_grad():  # a frozen stage keeps nothing in training, either
            for number, block in enumerate(self):
                # The first block's input is somebody else's; that of the others may take the output.
                x = _run_block(block, x, is_own=number > 0)
        return x


def join_stages(network: nn.Module) -> int:
    """Have the stages of a ResNet join their layers where they can; return how many there are."""
    stages = {name: stage for name, stage in network.named_children() if has_blocks(stage)}
    for name, stage in stages.items():
        # Children under the numbers they had, so `layer1.0.conv1.weight` keeps its name.
        setattr(network, name, JoinedStage(*stage.children()))
    return len(stages)


def has_blocks(stage: nn.Module) -> TypeGuard[nn.Sequential]:
    """True for a row of a ResNet's blocks."""
    return isinstance(stage, nn.Sequential) and all(isinstance(block, (BasicBlock, Bottleneck)) for block in stage)


def _joined_dtype(x: Tensor) -> torch.dtype | None:
    """Return the type in which joined convolutions of x (B, C, H, W) are computed; None where layers run one by one."""
    # First: PyTorch 2.11's compiler cannot follow the question for autocast.
    if torch.compiler.is_compiling():
        return None
    dtype = product_dtype(x)
    return dtype if can_join(x, dtype) else None


def _run_block(block: Any, x: Tensor, *, is_own: bool) -> Tensor:
    """Run a block on x (B, C, H, W), whose memory the result takes where it `is_own` and added to the result."""
    if block.downsample is not None:
        shortcut = block.downsample[0](x, join=Join(relu=False))
    else:
        shortcut = x if is_own else x.clone()
    return _run_row(block, x, shortcut)


def _train_block(block: Any, x: Tensor) -> Tensor:
    """Run a block on x (B, C, H, W) in a way that gradients pass."""
    return _run_row(block, x, x if block.downsample is None else block.downsample[0](x))


def _run_row(block: nn.Module, x: Tensor, shortcut: Tensor) -> Tensor:
    *inner, last = ("conv1", "conv2", "conv3") if isinstance(block, Bottleneck) else ("conv1", "conv2")
    for name in inner:
        x = getattr(block, name)(x, join=Join())
    return getattr(block, last)(x, join=Join(add=shortcut))


def _can_be_skipped(module: nn.Module) -> bool:
    """Tell if a module of a stage is as it was made and nobody looks at its output: `_run_block` may pass it by."""
    if isinstance(module, NormedConv2d):
        # It is called, so what is done to its input before, as `PaddingEraser` does, is done here, too.
        return module.bias is None and not module._forward_hooks
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    if isinstance(module, FrozenBatchNorm2d):
        return module.folded
    return type(module) in (nn.ReLU, nn.Sequential, BasicBlock, Bottleneck)
