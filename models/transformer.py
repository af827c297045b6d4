"""DETR's transformer: encoder over the feature map, decoder from object queries (section 3.2 and appendix A.3).

It differs from the one of Vaswani et al. in three ways: position encodings are added to queries and keys in every
attention, not once at the input; the decoder sees all queries at once, without a causal mask; and every decoder
layer's output is returned, normalised by one shared norm, for the auxiliary losses.

Stacks and layers have the original's arguments. A layer takes sequences first, as the original's do, unless it is made
with `batch_first`, as those of `Transformer` are.

Shapes: B images, S = h * w feature cells, Q queries, D channels, L decoder layers.
"""

import copy
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from util.dist.precision import wide_dtype
from util.profiling import annotate

from .attention import AttentionMaps, asking
from .fast.checkpointing import run_again_for_gradients
from .layers import TransformerDecoderLayer, TransformerEncoderLayer, swap_first_axes, with_positions
from .layers import _get_activation_fn as _get_activation_fn  # for scripts that import it from here


class Transformer(nn.Module):
    """Encoder and decoder.

    Args:
        d_model: channels D.
        nhead: heads of every attention.
        num_encoder_layers, num_decoder_layers: how many layers.
        dim_feedforward: width of the hidden layer of the feed-forward networks.
        dropout: probability, after every attention and inside and after every feed-forward network.
        activation: `relu`, `gelu` or `glu`.
        normalize_before: layer norms before each block (pre-norm) instead of after it; adds a norm to the encoder.
        return_intermediate_dec: return every decoder layer's output, not only the last.
    """

    def __init__(  # noqa: PLR0913 - DETR's signature
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        normalize_before: bool = False,
        return_intermediate_dec: bool = False,
    ) -> None:
        super().__init__()
        sizes = (d_model, nhead, dim_feedforward, dropout, activation, normalize_before)
        self.encoder = TransformerEncoder(
            [TransformerEncoderLayer(*sizes, batch_first=True) for _ in range(num_encoder_layers)],
            num_encoder_layers,
            nn.LayerNorm(d_model) if normalize_before else None,
        )
        self.decoder = TransformerDecoder(
            [TransformerDecoderLayer(*sizes, batch_first=True) for _ in range(num_decoder_layers)],
            num_decoder_layers,
            nn.LayerNorm(d_model),
            return_intermediate=return_intermediate_dec,
        )
        self.d_model = d_model
        self.nhead = nhead
        for parameter in self.parameters():
            # Matrices only: biases and norms keep their defaults.
            # Also the attention's joined matrix (3D, D), whose bounds are those of that shape, as in the original.
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None,
        query_embed: Tensor,
        pos_embed: Tensor,
        *,
        attention: AttentionMaps | None = None,
        look: Callable[[Tensor], Tensor] | None = None,
        tgt_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode objects from a feature map.

        Args:
            src: features (B, D, h, w).
            mask: (B, h, w), True on padding, which no attention then sees; None for no padding.
            query_embed: learned positions of the object queries (Q, D); their content starts at zero.
            pos_embed: position encoding (B, D, h, w).
            attention: receives the weights of all layers.
            look, tgt_mask: as in `TransformerDecoder`.

        Returns:
            decoder outputs (L, B, Q, D), L = 1 without `return_intermediate_dec`, and encoder memory (B, D, h, w).
        """
        b, _, h, w = src.shape
        memory, pos, padding = self.encode(src, mask, pos_embed, attention=attention)
        # A view without a copy: the same learned positions for every image.
        query_pos = query_embed.expand(b, -1, -1)  # (B, Q, D)
        with annotate("decoder"):
            hs = _batch_first(
                self.decoder,
                # The queries' content: they differ by their positions alone until the first layer has looked.
                torch.zeros_like(query_pos),
                memory,
                memory_key_padding_mask=padding,
                pos=pos,
                query_pos=query_pos,
                **({} if attention is None else asking(attention.decoder)),
                **({} if look is None else {"look": look}),
                **({} if tgt_mask is None else {"tgt_mask": tgt_mask}),
            )
        # (B, S, D) back to a map (B, D, h, w), which the mask head looks at.
        return hs, memory.transpose(1, 2).unflatten(2, (h, w))

    def encode(
        self, src: Tensor, mask: Tensor | None, pos_embed: Tensor, *, attention: AttentionMaps | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Encode a feature map; return its cells (B, S, D), their positions (B, S, D) and padding (B, S)."""
        b, _, h, w = src.shape
        cells = src.flatten(2).transpose(1, 2).to(wide_dtype(src))  # (B, S, D)
        pos = pos_embed.flatten(2).transpose(1, 2)  # (B, S, D)
        padding = None if mask is None or _is_idle(mask) else mask.flatten(1)  # (B, S)
        if attention is not None:
            attention.padding = src.new_zeros(b, h, w, dtype=torch.bool) if mask is None else mask
        with annotate("encoder"):
            wanted = {} if attention is None else asking(attention.encoder)
            memory = _batch_first(self.encoder, cells, src_key_padding_mask=padding, pos=pos, **wanted)
        return memory, pos, padding


class Stack(nn.Module):
    """Layers one after the other, and a norm of what comes out.

    Attributes:
        recompute: keep only the inputs of layers for the backward pass (`--grad_checkpoint`).
    """

    def __init__(self, layer: nn.Module | Sequence[nn.Module], num_layers: int, norm: nn.Module | None) -> None:
        super().__init__()
        self.layers = _as_layers(layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm
        self.recompute = False

    @property
    def batch_first(self) -> bool:
        """True where every layer takes batches first, False for the original's sequences first."""
        return all(getattr(layer, "batch_first", False) for layer in self.layers)

    def run(self, layer: nn.Module, *inputs: Any, **named: Any) -> Tensor:
        """Run one of the layers, with `recompute` in a way that keeps no more than its inputs."""
        return (run_again_for_gradients(layer) if self.recompute else layer)(*inputs, **named)


class TransformerEncoder(Stack):
    """A stack of encoder layers, with a final norm only when pre-norm asks for one.

    Args:
        encoder_layer: the layer to copy, or all the layers.
        num_layers: how many there are.
        norm: applied to the output.
    """

    def __init__(
        self, encoder_layer: nn.Module | Sequence[nn.Module], num_layers: int, norm: nn.Module | None = None
    ) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        *,
        attention: MutableSequence[Tensor] | None = None,
    ) -> Tensor:
        """Encode cells with positions, both as the layers take them; (B, S) is True where there is no image."""
        for layer in self.layers:
            src = self.run(
                layer, src, src_mask=mask, src_key_padding_mask=src_key_padding_mask, pos=pos, **asking(attention)
            )
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Stack):
    """A stack of decoder layers and one norm that every returned output passes.

    Args:
        decoder_layer: the layer to copy, or all the layers.
        num_layers: how many there are.
        norm: applied to every returned output.
        return_intermediate: return every layer's output (L, ...), not only the last (1, ...).
    """

    def __init__(
        self,
        decoder_layer: nn.Module | Sequence[nn.Module],
        num_layers: int,
        norm: nn.Module | None = None,
        return_intermediate: bool = False,
    ) -> None:
        super().__init__(decoder_layer, num_layers, norm)
        self.return_intermediate = return_intermediate

    def forward(  # noqa: PLR0913 - DETR's signature
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        query_pos: Tensor | None = None,
        *,
        attention: MutableSequence[Tensor] | None = None,
        look: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Decode queries from memory, both as the layers take them: outputs with the layer in front, (L, ...).

        `look` makes the `memory_mask` of a layer, from the second on, of the normalised output of the layer before.
        """
        same = {  # what every layer is given alike
            "tgt_mask": tgt_mask,
            "memory_mask": memory_mask,
            "tgt_key_padding_mask": tgt_key_padding_mask,
            "memory_key_padding_mask": memory_key_padding_mask,
            "pos": pos,
            "query_pos": query_pos,
        }
        outputs: list[Tensor] = []
        memory_pos = with_positions(memory, pos)  # the keys of every layer, added up once
        for layer in self.layers:
            # A layer of another class knows the original's arguments only.
            known = {"memory_pos": memory_pos} if _is_ours(layer) else {}
            if look is not None and outputs:
                # Through the norm first: the box head that `look` asks has learned on normalised outputs.
                same["memory_mask"] = look(tgt if self.norm is None else self.norm(tgt))
            tgt = self.run(layer, tgt, memory, **same, **known, **asking(attention))
            outputs.append(tgt)
        # (L, B, Q, D), and one norm for all layers: the heads that follow are shared, too.
        # This norm is for the outputs alone: the next layer got `tgt` without it.
        stacked = torch.stack(outputs if self.return_intermediate else outputs[-1:])
        return stacked if self.norm is None else self.norm(stacked)


def build_transformer(args: Any, *, dropout: float | None = None) -> Transformer:
    """Build the transformer of an `Architecture`, or of DETR's flags with their own `dropout`."""
    return Transformer(
        d_model=args.hidden_dim,
        nhead=args.nheads,
        num_encoder_layers=args.enc_layers,
        num_decoder_layers=args.dec_layers,
        dim_feedforward=args.dim_feedforward,
        dropout=args.dropout if dropout is None else dropout,
        normalize_before=args.pre_norm,
        return_intermediate_dec=True,
    )


def _batch_first(stack: nn.Module, *inputs: Tensor, **named: Any) -> Tensor:
    """Run a stack on tensors (B, S, D), also one that takes sequences first, as those of other people do."""
    if getattr(stack, "batch_first", False):
        return stack(*inputs, **named)
    # Masks have the batch first in either order.
    swapped = {name: swap_first_axes(x) if name in ("pos", "query_pos") else x for name, x in named.items()}
    return stack(*map(swap_first_axes, inputs), **swapped).transpose(-3, -2)


def _is_idle(mask: Tensor) -> bool:
    """True for a mask (B, h, w) that hides nothing, so that attention need not add it to scores; the sums are equal.

    It is asked in inference on the CPU alone: a GPU would make the host wait, and a tracer would keep the answer.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return type(mask) is Tensor and mask.device.type == "cpu" and not mask.any()


def _is_ours(layer: nn.Module) -> bool:
    """True for a layer that runs our forward, and so knows the arguments we added."""
    return type(layer).forward is TransformerDecoderLayer.forward


def _as_layers(layer: nn.Module | Sequence[nn.Module], count: int) -> nn.ModuleList:
    """Copies of a layer, or the layers if they are given one by one."""
    return _get_clones(layer, count) if isinstance(layer, nn.Module) else nn.ModuleList(layer)


def _get_clones(module: nn.Module, N: int) -> nn.ModuleList:
    """Copy a module N times, weights included; the argument's name is DETR's."""
    return nn.ModuleList(copy.deepcopy(module) for _ in range(N))
