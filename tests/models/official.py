"""Stand-ins for the files that DETR's authors published.

Names and shapes of the tensors, written out from its documentation of layers, and the format they are pickled in.
"""

import argparse
import hashlib
from collections import OrderedDict
from pathlib import Path, PosixPath

import torch

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def official_shapes(
    *,
    backbone: str = "resnet50",
    num_classes: int | None = None,
    hidden: int = 256,
    ffn: int = 2048,
    masks: bool = False,
    width: int = 64,
) -> dict[str, tuple]:
    """Every tensor of a released R50 or R101 file, by name; with masks, of a panoptic one. DC5 has the same.

    `width` is the number of channels in the backbone's first stage, from which those of the later ones follow.
    """
    shapes = _transformer(hidden, ffn)
    shapes |= _linear("class_embed", (num_classes or (250 if masks else 91)) + 1, hidden)
    for i, outputs in enumerate((hidden, hidden, 4)):
        shapes |= _linear(f"bbox_embed.layers.{i}", outputs, hidden)
    shapes["query_embed.weight"] = (100, hidden)
    shapes |= {"input_proj.weight": (hidden, 32 * width, 1, 1), "input_proj.bias": (hidden,)}
    shapes |= {f"backbone.0.body.{name}": shape for name, shape in _resnet(BLOCKS[backbone], width).items()}
    return {f"detr.{name}": shape for name, shape in shapes.items()} | _mask_head(hidden, width) if masks else shapes


def official_checkpoint(**sizes) -> dict[str, torch.Tensor]:
    """A state dict with the official names and shapes and small random values."""
    generator = torch.Generator().manual_seed(0)
    state = {name: 0.02 * torch.randn(shape, generator=generator) for name, shape in official_shapes(**sizes).items()}
    return {name: 1 + value.abs() if name.endswith("running_var") else value for name, value in state.items()}


def constant_state(**sizes) -> OrderedDict[str, torch.Tensor]:
    """Every official tensor at its full shape, but of one small number of its own: quick to make, tiny as a file."""
    shapes = official_shapes(**sizes).items()
    return OrderedDict((name, torch.tensor(1e-3 + 1e-6 * i).expand(shape)) for i, (name, shape) in enumerate(shapes))


def write_published(folder: Path, stem: str, **sizes) -> Path:
    """A file of weights as the published ones are: pickled as before torch 1.6, its hash in its name."""
    path = folder / f"{stem}.pth"
    torch.save({"model": constant_state(**sizes)}, path, _use_new_zipfile_serialization=False)
    return path.rename(folder / f"{stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")


def write_training(path: Path, *, epoch: int = 4, sizes: dict | None = None, **flags) -> Path:
    """A `checkpoint.pth` as the original's training writes it: with an argparse.Namespace, and in that a path."""
    namespace = argparse.Namespace(
        **{
            "lr": 1e-4,
            "lr_backbone": 1e-5,
            "weight_decay": 1e-4,
            "nheads": 8,
            "dilation": False,
            "masks": False,
            "output_dir": PosixPath("out"),
            "distributed": False,
        }
        | flags
    )
    state = {"model": constant_state(**(sizes or {})), "epoch": epoch, "args": namespace}
    torch.save(state | {"optimizer": {}, "lr_scheduler": {}}, path)
    return path


def _linear(name: str, out_width: int, in_width: int) -> dict[str, tuple]:
    return {f"{name}.weight": (out_width, in_width), f"{name}.bias": (out_width,)}


def _norm(name: str, width: int) -> dict[str, tuple]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _mask_head(hidden: int, width: int, heads: int = 8) -> dict[str, tuple]:
    shapes = _linear("bbox_attention.q_linear", hidden, hidden) | _linear("bbox_attention.k_linear", hidden, hidden)
    widths = [hidden + heads, hidden + heads, hidden // 2, hidden // 4, hidden // 8, hidden // 16]
    layers = [
        *((f"lay{i}", n, m, 3) for i, (n, m) in enumerate(zip(widths, widths[1:]), 1)),
        ("out_lay", widths[-1], 1, 3),
    ]
    layers += [
        (f"adapter{i}", n, m, 1) for i, (n, m) in enumerate(zip((16 * width, 8 * width, 4 * width), widths[2:]), 1)
    ]
    for name, inputs, outputs, kernel in layers:
        shapes |= {f"mask_head.{name}.weight": (outputs, inputs, kernel, kernel), f"mask_head.{name}.bias": (outputs,)}
    for i, channels in enumerate(widths[1:], 1):
        shapes |= _norm(f"mask_head.gn{i}", channels)
    return shapes


def _transformer(hidden: int, ffn: int) -> dict[str, tuple]:
    shapes = {}
    for kind, attentions, norms in (("encoder", ("self_attn",), 2), ("decoder", ("self_attn", "multihead_attn"), 3)):
        for layer in (f"transformer.{kind}.layers.{i}" for i in range(6)):
            for attention in attentions:
                shapes |= {
                    f"{layer}.{attention}.in_proj_weight": (3 * hidden, hidden),
                    f"{layer}.{attention}.in_proj_bias": (3 * hidden,),
                }
                shapes |= _linear(f"{layer}.{attention}.out_proj", hidden, hidden)
            shapes |= _linear(f"{layer}.linear1", ffn, hidden) | _linear(f"{layer}.linear2", hidden, ffn)
            for i in range(1, norms + 1):
                shapes |= _norm(f"{layer}.norm{i}", hidden)
    return shapes | _norm("transformer.decoder.norm", hidden)


def _frozen_norm(name: str, width: int) -> dict[str, tuple]:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}


def _resnet(blocks: tuple[int, ...], first: int) -> dict[str, tuple]:
    shapes = {"conv1.weight": (64, 3, 7, 7)} | _frozen_norm("bn1", 64)
    inputs = 64
    for stage, count in enumerate(blocks):
        width, outputs = first * 2**stage, 4 * first * 2**stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            convolutions = ((width, inputs, 1, 1), (width, width, 3, 3), (outputs, width, 1, 1))
            for i, shape in enumerate(convolutions, 1):
                shapes |= {f"{name}.conv{i}.weight": shape} | _frozen_norm(f"{name}.bn{i}", shape[0])
            if block == 0:
                shapes |= {f"{name}.downsample.0.weight": (outputs, inputs, 1, 1)} | _frozen_norm(
                    f"{name}.downsample.1", outputs
                )
            inputs = outputs
    return shapes
