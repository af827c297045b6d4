"""The parts of a DETR, weights aside, and the model built from them."""

from dataclasses import dataclass
from typing import Any

from .backbone import Backbone, build_backbone
from .detector import DETR
from .segmentation import DETRsegm
from .transformer import build_transformer


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The flags, by name, that decide what a model computes; the defaults are DETR-R50's on COCO."""

    backbone: str = "resnet50"
    backbone_norm: str = "frozen"
    dilation: bool = False
    feature_map: str = "c5"
    padding_invariant: bool = False
    position_embedding: str = "sine"
    enc_layers: int = 6
    dec_layers: int = 6
    dim_feedforward: int = 2048
    hidden_dim: int = 256
    nheads: int = 8
    num_queries: int = 100
    pre_norm: bool = False
    num_classes: int = 91
    masks: bool = False
    queries: str = "learned"
    focal: bool = False
    local_attention: bool = False
    groups: int = 1
    denoising: int = 0
    encoder_attention: str = "softmax"
    decoder_self_attention: str = "softmax"
    cross_attention: str = "softmax"
    topk: int = 32


def build_detector(
    architecture: Architecture,
    *,
    backbone_weights: str = "none",
    train_backbone: bool = True,
    dropout: float = 0.1,
    aux_loss: bool = False,
    freeze_detr: bool = False,
    mask_chunk: int = 0,
    channels_last: bool | None = None,
) -> DETR | DETRsegm:
    """Build the model on the CPU, with a mask head where the architecture has masks.

    Args:
        backbone_weights: what `load_backbone_weights` takes; everything else starts random.
        train_backbone, dropout, aux_loss: as in `Backbone`, `Transformer` and `DETR`.
        freeze_detr, mask_chunk: as in `DETRsegm`.
        channels_last: as in `Backbone`.
    """
    parts = (
        build_backbone(
            architecture, train_backbone=train_backbone, weights=backbone_weights, channels_last=channels_last
        ),
        build_transformer(architecture, dropout=dropout),
        architecture.num_classes,
        architecture.num_queries,
        aux_loss,
    )
    # Of the two ways only the second imports the variants; random numbers are drawn in the same order in the first as
    # ever.
    model = DETR(*parts) if _is_plain(architecture) else _build_variant(architecture, parts, dropout=dropout)
    # Normalisers hang on attentions that exist: after the decoder of a variant has taken its place.
    _make_sparse(model, architecture)
    return DETRsegm(model, freeze_detr=freeze_detr, mask_chunk=mask_chunk) if architecture.masks else model


def _is_plain(architecture: Architecture) -> bool:
    """True for a detector of DETR's own parts."""
    switches = architecture.focal, architecture.local_attention, architecture.groups > 1, architecture.denoising > 0
    return architecture.queries == "learned" and not any(switches)


def _build_variant(architecture: Architecture, parts: tuple[Any, ...], *, dropout: float) -> DETR:
    """Build a detector with one of the research switches; their files are imported here and nowhere else."""
    from .variants.detectors import AnchorDETR, LearnedDETR, anchor_transformer
    from .variants.focal import start_unlikely

    model: DETR
    if architecture.queries == "learned":
        model = LearnedDETR(*parts, local=architecture.local_attention, groups=architecture.groups)
    else:
        backbone, _, *counts = parts
        transformer = anchor_transformer(architecture, dropout=dropout)
        more: dict[str, Any] = {"groups": architecture.groups, "denoising": architecture.denoising}
        model = AnchorDETR(backbone, transformer, *counts, propose=architecture.queries == "encoder", **more)
    if architecture.focal:
        # After the model is whole: it only sets a bias, so no random number is drawn for it.
        start_unlikely(model.class_embed)
    return model


def _make_sparse(model: DETR, architecture: Architecture) -> None:
    """Replace the softmax of attentions where the architecture says so."""
    names = {
        "encoder": architecture.encoder_attention,
        "decoder_self": architecture.decoder_self_attention,
        "cross": architecture.cross_attention,
    }
    if set(names.values()) != {"softmax"}:
        from .variants.sparse_attention import set_normalizers

        set_normalizers(model.transformer, topk=architecture.topk, **names)


def backbone_of(model: DETR | DETRsegm) -> Backbone:
    """Backbone of a model that `build_detector` made."""
    backbone = (model.detr if isinstance(model, DETRsegm) else model).backbone[0]
    assert isinstance(backbone, Backbone)
    return backbone
