"""The backbone of a preset, and what it starts from: ImageNet weights where there is a way to them."""

from collections.abc import Callable
from dataclasses import dataclass

from util.errors import DownloadError

from ..choices import Choice
from .facts import MachineFacts

#: Fetches the ImageNet weights of a backbone. Raises DownloadError.
Fetch = Callable[[str], None]


@dataclass(frozen=True)
class BackboneWishes:
    """Flags of the backbone that were typed; None where nothing was.

    Attributes:
        name, weights: --backbone, --backbone_weights.
        masks: a mask head, which needs the four maps of a ResNet.
        brought: a checkpoint brings the weights: nothing is fetched.
    """

    name: str | None = None
    weights: str | None = None
    masks: bool = False
    brought: bool = False


def choose_backbone(machine: MachineFacts, wishes: BackboneWishes, fetch: Fetch) -> tuple[dict[str, Choice], bool]:
    """Choose backbone, its weights and its norms; return the choices, and True if it starts from trained weights.

    Without a way to ImageNet's weights a small ResNet starts from random ones, with batch norms that train.
    """
    name = wishes.name or _by_machine(machine, wishes.masks).value
    choices = {"backbone": Choice(wishes.name, "as typed") if wishes.name else _by_machine(machine, wishes.masks)}
    # Asked first: nothing must be fetched for somebody who has no network and says so.
    if wishes.weights == "none":
        return choices | from_scratch("--backbone_weights none"), False
    elsewhere = name.startswith("timm:")  # that package fetches its own
    # Nothing to fetch: the weights come with a checkpoint, from timm, or from a file whose path was typed.
    if wishes.brought or elsewhere or wishes.weights not in (None, "imagenet"):
        return choices, True
    try:
        fetch(name)
    except DownloadError as error:
        if wishes.weights is not None:  # typed: the run itself says what is the matter, and what to do
            return choices, True
        why = f"{error.line()}; --backbone_weights FILE takes a file of them"
        small = Choice("resnet18", "small enough to train from random weights")
        return choices | ({} if wishes.name else {"backbone": small}) | from_scratch(why), False
    return choices | {"backbone_weights": Choice("imagenet", "trained features save most of the training")}, True


def from_scratch(why: str) -> dict[str, Choice]:
    """Choices of a backbone that starts from random weights."""
    return {"backbone_weights": Choice("none", why), "backbone_norm": Choice("batch", "its batch norms have to train")}


def _by_machine(machine: MachineFacts, masks: bool) -> Choice:
    if machine.gpu:
        return Choice("resnet50", f"a GPU, {machine.gpu}")
    if masks:
        return Choice("resnet18", "no GPU, and --masks needs a ResNet")
    return Choice("mobilenet_v2", "no GPU: a small network that is quick on a CPU")
