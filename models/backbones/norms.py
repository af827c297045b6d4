"""Norms of a network that is built with batch norms: frozen as in DETR, trained, or in groups of channels."""

from torch import nn

from util.errors import UserError

from ..fast.folded_norm import FrozenBatchNorm2d

#: For --backbone_norm.
NORMS = ("frozen", "batch", "group")
#: Groups of a group norm (Wu and He 2018, arXiv 1803.08494); fewer where channels are few or no multiple of it.
GROUPS = 32


def replace_norms(module: nn.Module, norm: str, *, name: str) -> None:
    """Put other norms in the place of batch norms; names stay, and so does what keeps a variance above zero.

    Args:
        module: the network; changed.
        norm: `frozen`, `group`, or `batch`: leave them.
        name: the network's, for messages.

    Raises:
        UserError: batch or group norms are asked for, and the network has no batch norms.
    """
    found = [
        (parent, child, layer)
        for parent in module.modules()
        for child, layer in parent.named_children()
        # `type`, not isinstance: SyncBatchNorm and a frozen norm are left as they are.
        if type(layer) is nn.BatchNorm2d
    ]
    if norm != "frozen" and not found:
        raise UserError(
            f"--backbone_norm {norm}: --backbone {name} has no batch norms: leave the flag out; --freeze_layers 0 "
            "trains all of it"
        )
    for parent, child, layer in found:
        if norm == "frozen":
            # The network's own eps: MobileNetV3 and EfficientNet divide by sqrt(var + 1e-3), not 1e-5.
            setattr(parent, child, FrozenBatchNorm2d(layer.num_features, eps=layer.eps))
        elif norm == "group":
            setattr(parent, child, nn.GroupNorm(groups_of(layer.num_features), layer.num_features, eps=layer.eps))


def groups_of(channels: int) -> int:
    """Return the most groups up to `GROUPS` that divide channels evenly, two or more to a group."""
    # Two channels a group at least: in a group of one, a 1 x 1 map would be normalised to 0.
    return next(n for n in range(min(GROUPS, max(1, channels // 2)), 0, -1) if channels % n == 0)


def statistics_of_group_norms(module: nn.Module) -> frozenset[str]:
    """Names of the statistics that batch norms would have in the places of group norms."""
    norms = [name for name, layer in module.named_modules() if isinstance(layer, nn.GroupNorm)]
    return frozenset(f"{name}.{part}" for name in norms for part in ("running_mean", "running_var"))
