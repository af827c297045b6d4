"""Names and shapes of the tensors in the original's detection checkpoints, written out from its documentation of layers."""

import torch

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def official_shapes(
    *, backbone: str = "resnet50", num_classes: int = 91, hidden: int = 256, ffn: int = 2048
) -> dict[str, tuple]:
    """Every tensor of a released DETR-R50 or -R101 file, by name."""
    shapes = _transformer(hidden, ffn)
    shapes |= _linear("class_embed", num_classes + 1, hidden)
    for i, width in enumerate((hidden, hidden, 4)):
        shapes |= _linear(f"bbox_embed.layers.{i}", width, hidden)
    shapes["query_embed.weight"] = (100, hidden)
    shapes |= {"input_proj.weight": (hidden, 2048, 1, 1), "input_proj.bias": (hidden,)}
    return shapes | {f"backbone.0.body.{name}": shape for name, shape in _resnet(BLOCKS[backbone]).items()}


def official_checkpoint(**sizes) -> dict[str, torch.Tensor]:
    """A state dict with the official names and shapes and small random values."""
    generator = torch.Generator().manual_seed(0)
    state = {name: 0.02 * torch.randn(shape, generator=generator) for name, shape in official_shapes(**sizes).items()}
    return {name: 1 + value.abs() if name.endswith("running_var") else value for name, value in state.items()}


def _linear(name: str, out_width: int, in_width: int) -> dict[str, tuple]:
    return {f"{name}.weight": (out_width, in_width), f"{name}.bias": (out_width,)}


def _norm(name: str, width: int) -> dict[str, tuple]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


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


def _resnet(blocks: tuple[int, ...]) -> dict[str, tuple]:
    shapes = {"conv1.weight": (64, 3, 7, 7)} | _frozen_norm("bn1", 64)
    inputs = 64
    for stage, count in enumerate(blocks):
        width, outputs = 64 * 2**stage, 256 * 2**stage
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
