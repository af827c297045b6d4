"""The page of one image: attention of every layer, boxes and probabilities, to choose by hand.

One HTML file with its data and its code inside that loads nothing from anywhere, of less than 3 MB.
"""

import html
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from util.runs.atomic import atomic_file

from .maps import Inside
from .packing import ALMOST, Packed, blocks_to, pack, pack_encoder, pack_image
from .ramp import NOTHING, STOPS

FOLDER = Path(__file__).parent
#: Later ones call earlier ones.
SCRIPTS = ("maps.js", "drawing.js", "page.js")
#: Bytes of text; together with the code, some 60 KB, they stay below 3 MB.
IMAGE_BUDGET, DECODER_BUDGET, ENCODER_BUDGET = 350_000, 650_000, 1_750_000
#: Queries at most; the list of more could not be overlooked, and the surest come first.
MOST_QUERIES = 24
#: Classes of a query that the page names: the best of any layer. The others are added up.
MOST_CLASSES = 5


def write_page(inside: Inside, path: str | os.PathLike, *, image_name: str, checkpoint_name: str) -> Path:
    """Write the page and return its path. Raises OSError where it cannot be written."""
    path = Path(path)
    decoder, side = _pack_decoder(inside.decoder[:, :, :MOST_QUERIES])
    encoder, side_from, side_to = pack_encoder(inside.encoder, ENCODER_BUDGET)
    facts = _facts(inside) | {
        "image": image_name,
        "checkpoint": checkpoint_name,
        "decoder": {"steps": decoder.steps, "side": side},
        "encoder": {"steps": encoder.steps, "from": side_from, "to": side_to},
    }
    # "</" would end the script element whatever a class is called.
    data = json.dumps(facts, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    parts = {
        "title": html.escape(f"Attention: {image_name} ({checkpoint_name})"),
        "style": (FOLDER / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "photo": pack_image(inside.image, IMAGE_BUDGET),
        "decoder": decoder.text,
        "encoder": encoder.text,
        "data": data,
    }
    page = (FOLDER / "page.template.html").read_text(encoding="utf-8")
    for name, text in parts.items():
        # Plain replacement, not str.format: the template's CSS and JavaScript are full of braces.
        page = page.replace("{{" + name + "}}", text)
    with atomic_file(path) as file:
        file.write(page.encode())
    return path


def _pack_decoder(decoder: np.ndarray) -> tuple[Packed, int]:
    """Pack (L, A, N, h, w) as L * A * N maps, over blocks of so many cells a side."""
    side = 1
    while True:
        joined = blocks_to(decoder, side)
        packed = pack(joined.reshape(-1, joined.shape[-2] * joined.shape[-1]), DECODER_BUDGET)
        if packed:
            return packed, side
        side *= 2


def _facts(inside: Inside) -> dict[str, Any]:
    """Everything but the weights, as JSON holds it."""
    layers, heads, queries = inside.decoder.shape[:3]
    return {
        "size": [inside.image.height, inside.image.width],
        "seen": inside.seen,
        "cells": inside.cells,
        "extent": [round(part, 5) for part in inside.extent],
        "layers": {"encoder": len(inside.encoder), "decoder": layers, "heads": heads},
        "stops": STOPS,
        "nothing": NOTHING,
        "almost": ALMOST,
        "found": inside.found,
        "classes": inside.probabilities.shape[-1] - 1,
        "left_out": max(0, queries - MOST_QUERIES),
        "queries": [_query(inside, n) for n in range(min(queries, MOST_QUERIES))],
    }


def _query(inside: Inside, n: int) -> dict[str, Any]:
    """Boxes (left, top, right, bottom in 0..1) and class probabilities of a query in every layer."""
    probabilities = inside.probabilities[:, n]  # (L, C + 1)
    label = int(inside.labels()[n])
    # By the best layer, so that a class which an early layer believed in and a late one dropped is still shown.
    order = np.argsort(-probabilities[:, :-1].max(0), kind="stable").tolist()
    # Ids without a name are those that the annotations skip.
    others = [k for k in order if k != label and (k in inside.class_names or not inside.class_names)]
    shown = [label, *others[: MOST_CLASSES - 1], probabilities.shape[1] - 1]
    return {
        "id": int(inside.queries[n]),
        "name": inside.name(label),
        "score": round(float(inside.scores()[n]), 4),
        "classes": [inside.name(k) for k in shown],
        "probabilities": np.round(probabilities[:, shown].astype(float), 4).tolist(),
        "boxes": np.round(inside.boxes[:, n].astype(float), 4).tolist(),
    }
