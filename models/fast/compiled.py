"""The backbone and the transformer's layers through `torch.compile` (`--compile`), with a count of what it compiled."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.util import find_spec

import torch
from torch import nn

from util.dist.accelerator import accelerator
from util.errors import UserError

from ..backbone import BackboneBase
from ..detector import DETR


class LayerCompiler:
    """Has the parts of a detector compile themselves when they are first run; parameters and their names stay.

    Args:
        detr: the detector, on its device.
        backend: what turns graphs into code, by torch's name for it.

    Raises UserError where a compiler that the backend calls is missing.
    """

    def __init__(self, detr: DETR, *, backend: str = "inductor") -> None:
        if backend == "inductor":
            _check_compiler(next(detr.parameters()).device)
        self.backend = torch._dynamo.lookup_backend(backend)
        #: Graphs compiled so far, by kind of part.
        self.graphs: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        backbone = detr.backbone[0]
        assert isinstance(backbone, BackboneBase), "--compile knows the parts of our backbones"
        # In parts and not whole: layers that are alike share their code, and what lies between may be any Python.
        self._compile("backbone", [backbone.body])
        self._compile("encoder layer", detr.transformer.encoder.layers)
        self._compile("decoder layer", detr.transformer.decoder.layers)

    def news(self) -> str | None:
        """Return a line on graphs compiled since the last call; None if there are none.

        In the first call that nothing was compiled is news, too.
        """
        if self._told == self.graphs and self._told:
            return None
        self._told = Counter(self.graphs)
        if not self.graphs:
            return "--compile: nothing was compiled; the model runs as without it"
        # The first graph of a kind is wanted; each further one means that a shape or a mode was met anew.
        again = sum(count - 1 for count in self.graphs.values())
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.graphs.items())
        total = sum(self.graphs.values())
        return f"--compile: {total} graphs compiled ({kinds}), {again} of them again, for other shapes or modes"

    def _compile(self, kind: str, modules: Iterable[nn.Module]) -> None:
        def compile_graph(graph: torch.fx.GraphModule, inputs: list) -> Callable:
            self.graphs[kind] += 1
            return self.backend(graph, inputs)

        for module in modules:  # with one backend for all of a kind, equal layers share their graphs
            module.compile(backend=compile_graph)


def _check_compiler(device: torch.device) -> None:
    """Refuse a device for which code cannot be compiled here. Raises UserError."""
    if accelerator(device).cuda and find_spec("triton") is None:
        raise UserError("--compile needs the package triton for a GPU: pip install triton, or leave the flag out")
    if accelerator(device).host and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise UserError("--compile needs a C++ compiler on the CPU: install g++, or leave the flag out")
