"""Flags of sparse attention."""

import argparse

from util.choices import ATTENTIONS


def add_attention_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags that put something in place of the softmax of attentions."""
    # The three attentions of DETR. The softmax is what its checkpoints were trained with.
    for name, whose in (
        ("encoder_attention", "of the encoder's cells to each other"),
        ("decoder_self_attention", "of the queries to each other"),
        ("cross_attention", "of the queries to the cells"),
    ):
        group.add_argument(
            f"--{name}",
            default="softmax",
            choices=ATTENTIONS,
            help=f"what makes weights of scores in the attention {whose}; all but the softmax give exact zeros "
            "(%(default)s)",
        )
    group.add_argument(
        # Unlike the others, its number of keys is a choice: their zeros come out of the scores.
        "--topk",
        default=32,
        type=int,
        metavar="N",
        help="keys that an attention 'topk' leaves a query (%(default)s)",
    )
    group.add_argument(
        "--alpha_lr_mult",
        default=10.0,
        type=float,
        metavar="X",
        help="learning rate of the alphas of 'alpha_entmax', in multiples of --lr; it never falls, and they have no "
        "weight decay (%(default)s)",
    )
