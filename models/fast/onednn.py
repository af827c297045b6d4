"""The question if operators of oneDNN may stand for PyTorch's layers, which they do on the CPU alone.

PyTorch brings them for its compiler, behind `torch.ops.mkldnn`. They are not documented, so each user of them looks
whether they are there, and runs PyTorch's layers where they are not.
"""

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


def takes_its_operators(x: Tensor, *names: str) -> bool:
    """Tell if operators of oneDNN may compute with `x` now, and this PyTorch has those of `names`."""
    # Tracers, other kinds of tensors (those without numbers) and counters of operators know the layers only.
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or is_in_torch_dispatch_mode():
        return False
    if type(x) not in (Tensor, torch.nn.Parameter) or x.device.type != "cpu":
        return False
    return bool(torch.backends.mkldnn.enabled) and all(hasattr(torch.ops.mkldnn, name) for name in names)
