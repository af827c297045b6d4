"""What a DETR is made of, weights aside, and the model built from it."""

from dataclasses import dataclass

from .backbone import Backbone, Joiner, load_backbone_weights
from .detr import DETR
from .position_encoding import build_position_encoding
from .segmentation import DETRsegm
from .transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The flags, by name, that decide what a model computes; the defaults are DETR-R50's on COCO."""

    backbone: str = "resnet50"
    backbone_norm: str = "frozen"
    dilation: bool = False
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
    model = DETR(
        backbone=_build_backbone(architecture, backbone_weights, train_backbone, channels_last),
        transformer=Transformer(
            d_model=architecture.hidden_dim,
            nhead=architecture.nheads,
            num_encoder_layers=architecture.enc_layers,
            num_decoder_layers=architecture.dec_layers,
            dim_feedforward=architecture.dim_feedforward,
            dropout=dropout,
            normalize_before=architecture.pre_norm,
            return_intermediate_dec=True,
        ),
        num_classes=architecture.num_classes,
        num_queries=architecture.num_queries,
        aux_loss=aux_loss,
    )
    return DETRsegm(model, freeze_detr=freeze_detr, mask_chunk=mask_chunk) if architecture.masks else model


def _build_backbone(
    architecture: Architecture, weights: str, train_backbone: bool, channels_last: bool | None
) -> Joiner:
    """Backbone with its weights, and the position encoding for its features."""
    backbone = Backbone(
        name=architecture.backbone,
        train_backbone=train_backbone,
        return_interm_layers=architecture.masks,
        dilation=architecture.dilation,
        norm=architecture.backbone_norm,
        channels_last=channels_last,
        padding_invariant=architecture.padding_invariant,
    )
    load_backbone_weights(backbone, weights)
    encoding = build_position_encoding(kind=architecture.position_embedding, hidden_dim=architecture.hidden_dim)
    return Joiner(backbone, encoding)
