"""A device that is not there: tensors without numbers that know shape, type and device, and so find what is misplaced.

PyTorch's FakeTensorMode refuses an operator whose tensors lie on different devices, and a read of a number by the host.
Nothing is computed and no random number is drawn.

PyTorch's documentation has the classes of `torch._subclasses` and `torch.utils._python_dispatch` under these names.
What else begins with an underscore here has no public form in torch 2.11 to 2.15; the lines that use it say what it
does.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..dist.accelerator import accelerator


@dataclass
class FakeDevice:
    """The device of a context of `fake_device`."""

    device: torch.device
    _streams: "_NoStreams | None" = None
    _held: list[Any] = field(default_factory=list)

    def follow(self, model: nn.Module) -> None:
        """Prepare a model for its backward passes; to be called once it is on the device."""
        if self._streams is not None:
            self._held += hold_accumulators(self._streams, model)


@contextmanager
def fake_device(device: torch.device) -> Iterator[FakeDevice]:
    """A context in which every new tensor is fake, also on a GPU that this machine lacks.

    Args:
        device: where the tensors will be. Modules and tensors are to be made inside of the context.
    """
    with ExitStack() as open_:
        mode = open_.enter_context(FakeTensorMode())
        mode.__dict__["__deepcopy__"] = lambda memo: mode  # a copied module is of the same mode
        streams = _NoStreams(device) if accelerator(device).cuda else None
        if streams is not None:
            # A GPU's part of the backward pass has a thread of its own, and there is none for a GPU that is not there.
            open_.enter_context(torch.autograd.set_multithreading_enabled(False))
            open_.enter_context(streams)
            open_.enter_context(_GpuStandIns(streams))
            open_.enter_context(_functions_without_streams(streams))
        if accelerator(device).host:  # where a read waits for nobody, and code may look at numbers
            open_.enter_context(ReadNumbers())
        # Operators over lists are for PyTorch's own classes of tensors; a fake one stands for them.
        classes = _classes_in_lists()
        open_.callback(classes.remove, FakeTensor)
        classes.append(FakeTensor)
        # Modules move by exchanging their tensors, which PyTorch refuses for fake ones.
        open_.callback(setattr, nn.Module, "to", nn.Module.to)
        nn.Module.to = _move  # type: ignore[assignment,method-assign]
        yield FakeDevice(device, streams)


class ReadNumbers(TorchDispatchMode):
    """Answers reads of a fake tensor's number with 1 or True: a loop that ends by a look runs as long as it can."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else args[0].dtype is torch.bool or 1
        return func(*args, **(kwargs or {}))


def _classes_in_lists() -> list[type]:
    """Return PyTorch's own list of the classes that it hands to operators over lists.

    Private: an optimizer can be told to use such operators, `clip_grad_norm_` with its defaults cannot. Without the
    list the same work is counted tensor by tensor.
    """
    return getattr(importlib.import_module("torch.utils._foreach_utils"), "_foreach_supported_types", [])


def _move(module: nn.Module, device: torch.device | str) -> nn.Module:
    """Replace parameters and buffers by those on the device; one that several modules share stays one."""
    moved: dict[int, Tensor] = {}
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False, remove_duplicate=False)):
            new = nn.Parameter(parameter.detach().to(device), parameter.requires_grad)
            # By identity: heads that are shared would otherwise be counted twice.
            setattr(part, name, moved.setdefault(id(parameter), new))
        for name, buffer in list(part.named_buffers(recurse=False, remove_duplicate=False)):
            setattr(part, name, moved.setdefault(id(buffer), buffer.to(device)))
    return module


@contextmanager
def fake_autocast(dtype: torch.dtype) -> Iterator[None]:
    """Autocast to a type as `torch.autocast("cuda", dtype)` does it, which does nothing on a machine without a GPU."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    # Casts of weights are cached until the outermost context ends: the count says which one that is.
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


class _GpuStandIns(TorchFunctionMode):
    """Answers what asks the GPU itself: which kernel an attention takes, and on which stream a gradient is made."""

    def __init__(self, streams: "_NoStreams") -> None:
        super().__init__()
        self.streams = streams

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, (OpOverload, OpOverloadPacket)):  # passed on by who counts operators
            return func(*args, **kwargs)
        self.streams.fresh.clear()  # what calls before this one returned is Python's by now
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if func is Tensor.backward:
            with self, self.streams.answering(on_host=True):  # layers that are run again have their attention here
                # What `backward` of a loss calls. Both public forms, the method and `torch.autograd.backward`, would
                # take this mode away for as long as they run.
                run = torch.autograd.graph._engine_run_backward
                run(
                    (args[0],),
                    (torch.ones_like(args[0]),),
                    False,
                    False,
                    (),
                    allow_unreachable=True,
                    accumulate_grad=True,
                )
                return None
        # Also inside of a backward pass, where a layer is run again: Python gets true answers.
        with self.streams.answering(on_host=False):
            return func(*args, **kwargs)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0
    ) -> Tensor:
        """Attend by the kernel that a GPU takes where keys are masked: the memory-efficient one."""
        # (B, heads, L, S), strides 0 where it is broadcast: as PyTorch hands it to the kernel.
        bias = None if attn_mask is None else attn_mask.expand(*q.shape[:-1], k.shape[-2])
        kept = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
        if torch.is_autocast_enabled("cuda"):
            dtype = torch.get_autocast_dtype("cuda")
            q, k, v = (x.to(dtype) for x in (q, k, v))
            bias = None if bias is None else bias.to(dtype)
        return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, bias, kept, dropout_p)[0]


class _NoStreams(TorchDispatchMode):
    """Tells autograd, and nobody else, that tensors are on the host, where there are no streams to wait for.

    Autograd is C++ and asks a fake tensor for its device by an operator. It asks about results that an operator has
    just made; others (autocast, dropout) ask about what they are given, and get the true answer.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.fresh: set[int] = set()
        self.always = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.ops.prim.device.default and (self.always or id(args[0]) in self.fresh):
            return torch.device("cpu")
        kwargs = kwargs or {}
        if self.always and kwargs.get("device") is not None:
            kwargs = kwargs | {"device": self.device}  # beside a gradient, where autograd was told that it is
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            # Ids, because a fake tensor cannot be compared without an operator that would come by here again.
            self.fresh.add(id(result))
        elif isinstance(result, (list, tuple)):
            self.fresh.update(map(id, result))
        return result

    @contextmanager
    def answering(self, *, on_host: bool) -> Iterator[None]:
        """A context in which every tensor is said to be on the host, or only results that were just made."""
        before, self.always = self.always, on_host
        try:
            yield
        finally:
            self.always = before


@contextmanager
def _functions_without_streams(streams: _NoStreams) -> Iterator[None]:
    """A context in which results of our own autograd functions count as just made, too."""
    apply = torch.autograd.Function.__dict__["apply"]

    def call(cls: Any, *args: Any) -> Any:
        outside = streams.always
        forward = cls.forward

        # Its forward computes without autograd; what asks afterwards is autograd.
        def true_answers(*inputs: Any) -> Any:
            streams.always = outside
            try:
                return forward(*inputs)
            finally:
                streams.always = True

        once = type(cls.__name__, (cls,), {"forward": staticmethod(true_answers)})
        try:
            return apply.__get__(None, once)(*args)
        finally:
            streams.always = outside

    torch.autograd.Function.apply = classmethod(call)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.autograd.Function.apply = apply  # type: ignore[method-assign]


def hold_accumulators(streams: _NoStreams, model: nn.Module) -> list[Any]:
    """Make the ends of the graph, where gradients are added up, while autograd is told that they are on the host.

    They live as long as somebody holds them.
    """
    with torch._C.DisableTorchFunction(), streams.answering(on_host=True), torch.enable_grad():
        trained = [p for p in model.parameters() if p.requires_grad]
        return [torch.autograd.graph.get_gradient_edge(p).node for p in trained]
