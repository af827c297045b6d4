"""Flags of the architecture that say which attention is sparse, as checkpoints know them."""

from collections.abc import Collection, Mapping
from typing import Any

from util.choices import ATTENTIONS

#: The flags, each with the attention that it is about, as its weights are named.
PLACES = {
    "encoder_attention": "transformer.encoder.layers.0.self_attn",
    "decoder_self_attention": "transformer.decoder.layers.0.self_attn",
    "cross_attention": "transformer.decoder.layers.0.multihead_attn",
}


def learned_from(names: Collection[str]) -> dict[str, str]:
    """Return the flags that the names of weights tell: a learned alpha is the only normaliser with weights."""
    return {flag: "alpha_entmax" for flag, place in PLACES.items() if f"{place}.normalizer.alpha_logits" in names}


def is_attention(flag: str, value: Any) -> bool:
    """Return False for a value in somebody's file that none of these flags can have."""
    return flag not in PLACES or value in ATTENTIONS


def attention_differs(flag: str, known: Mapping[str, Any], flags: Mapping[str, Any]) -> bool:
    """Tell if weights made with the flags `known` are not for a model of `flags`, as far as `flag` is concerned.

    Weights of a softmax are for every attention without weights of its own: they may go on with a sparse one.
    """
    if flag == "topk":
        return known[flag] != flags[flag] and "topk" in {known.get(place) for place in PLACES}
    # alpha-entmax is refused even for a softmax's weights: its alphas would be missing in the file.
    return known[flag] != flags[flag] and (known[flag] != "softmax" or flags[flag] == "alpha_entmax")
