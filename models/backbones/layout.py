"""The parts of a network in order, which a backbone freezes from the front, and the map that it gives: c5 or c4."""

from typing import NamedTuple

from torch import nn

from util.errors import UserError

#: Which map of a backbone is used: that of its last stage (stride 32), or the one before (stride 16).
FEATURE_MAPS = ("c5", "c4")


class Layout(NamedTuple):
    """Facts of a network that a backbone needs.

    Attributes:
        parts: for each part, in the order of the computation, the modules in it by name: what `--freeze_layers` counts.
        frozen: how many parts are those of stride 2 and 4, which DETR never trains.
        returned: the layer that makes the map; empty where the network returns the map itself.
        channels: of the map.
        names: of all weights of the whole network.
    """

    parts: tuple[tuple[str, ...], ...]
    frozen: int
    returned: str
    channels: int
    names: frozenset[str]

    def part_of(self, name: str) -> int:
        """Return the number of the part that a module or a weight is in; those behind the map have the highest."""
        for number, modules in enumerate(self.parts):
            # With the dots, so that `layer1` is not also the beginning of `layer10`.
            if any(f"{name}.".startswith(f"{module}.") for module in modules):
                return number
        return len(self.parts)

    def describe_parts(self) -> str:
        """Name the parts for a message."""
        names = ["+".join(part) for part in self.parts]
        return ", ".join([*names[:3], "...", names[-1]] if len(names) > 5 else names)


def out_channels(module: nn.Module) -> int:
    """Return the channels of what a network gives: those of its last convolution or, in ConvNeXts, linear layer."""
    # Read off the layers, not by running the network: it may still be on "meta", or large.
    last = [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))][-1]
    return last.out_channels if isinstance(last, nn.Conv2d) else last.out_features


def refuse_feature_map(feature_map: str, *, dilation: bool, masks: bool) -> None:
    """Raise UserError where a model with its last stage left away is asked for something of that stage."""
    if feature_map not in FEATURE_MAPS:
        raise UserError(f"--feature_map {feature_map} is not known; choose one of: {', '.join(FEATURE_MAPS)}")
    if feature_map == "c4" and dilation:
        raise UserError(
            "--dilation dilates the backbone's last stage, and --feature_map c4 leaves it away: both give stride 16, "
            "give one of them"
        )
    if feature_map == "c4" and masks:
        raise UserError("--masks needs the maps of all four stages: leave out --feature_map c4, or --masks")
