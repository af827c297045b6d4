"""The page beside an exported file: what the model is, what it was trained on, how good it is, how to run it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .metadata import ExportMetadata

#: Classes in a card, at most; the file itself names all.
SHOWN = 100


@dataclass(frozen=True)
class CardFacts:
    """Facts that the file itself does not hold.

    Attributes:
        file: its name.
        format: a name of `formats.SUFFIXES`.
        parameters: numbers in the model.
        run: flags of the run that wrote the checkpoint; empty for files of others.
        precision: AP by kind, of model and file, as measured while exporting; None where there was no data.
        images: how many images that was measured on.
        recorded: AP that the checkpoint itself holds; None where it holds none.
    """

    file: str
    format: str
    parameters: int
    run: Mapping[str, Any]
    precision: Mapping[str, tuple[float, float]] | None
    images: int
    recorded: float | None


def write_card(metadata: ExportMetadata, facts: CardFacts) -> str:
    """Return the card as markdown."""
    parts = [
        f"# {facts.file}",
        "A DETR detector (End-to-End Object Detection with Transformers, Carion et al. 2020), exported from "
        f"`{metadata.source}`.",
        "## Model\n\n" + _model(metadata, facts),
        "## Data and accuracy\n\n" + _accuracy(facts),
        "## Classes\n\n" + _classes(metadata),
        "## Preprocessing\n\n" + _preprocessing(metadata),
        "## Run it\n\n" + _run(metadata, facts),
        "## Licence\n\nThe code and the published weights of DETR are under Apache 2.0. Weights that were trained on "
        "other data may be bound by the licence of that data: check it before you hand this file on.",
    ]
    return "\n\n".join(parts) + "\n"


def _model(metadata: ExportMetadata, facts: CardFacts) -> str:
    rows = {name: value for name, value in asdict(metadata.architecture).items()} | {
        "parameters": f"{facts.parameters:,}"
    }
    return "\n".join(["| part | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _accuracy(facts: CardFacts) -> str:
    lines = []
    data = facts.run.get("data_path") or facts.run.get("coco_path")
    if facts.run.get("dataset_file"):
        lines.append(f"Trained with `--dataset_file {facts.run['dataset_file']}`" + (f" on `{data}`." if data else "."))
    if facts.precision is not None:
        measured = "; ".join(
            f"{kind}: AP {file:.3f} (the model: {model:.3f})" for kind, (model, file) in facts.precision.items()
        )
        lines.append(f"Measured on {facts.images} validation images while exporting: {measured}.")
    elif facts.recorded is not None:
        lines.append(f"The training run's last evaluation: AP {facts.recorded:.3f}.")
    else:
        lines.append("Its accuracy is not known here.")
    return " ".join(lines)


def _classes(metadata: ExportMetadata) -> str:
    if not metadata.class_names:
        return f"{metadata.architecture.num_classes} classes without names."
    named = sorted(metadata.class_names.items())
    listed = ", ".join(f"{id_} {name}" for id_, name in named[:SHOWN])
    return f"By the number in the output: {listed}{' ...' if len(named) > SHOWN else '.'}"


def _preprocessing(metadata: ExportMetadata) -> str:
    steps = metadata.preprocessing()
    mean, std = (", ".join(map(str, steps[name])) for name in ("mean", "std"))
    if metadata.canvas.fixed:
        size = "resize to fit inside {} x {} pixels (height x width), and pad to that size".format(
            *metadata.canvas.fixed
        )
    else:
        # DETR's proportion of the longer to the shorter limit.
        limit = metadata.max_size or round(metadata.image_size * 1333 / 800)
        size = f"resize so that the shorter side is {metadata.image_size} pixels and the longer at most {limit}"
    return (
        f"RGB; {size}; divide by 255, subtract ({mean}), divide by ({std}), channel by channel. Images of a batch are "
        "padded with zeros below and to the right, after normalisation; `mask` is true on padding, false on the image."
    )


def _run(metadata: ExportMetadata, facts: CardFacts) -> str:
    height, width = metadata.canvas.fixed or (metadata.image_size, metadata.image_size)
    ours = f"```\npython predict.py --resume {facts.file} --input photo.jpg\n```"
    shape = f"(1, 3, {height}, {width})"
    if facts.format == "onnx":
        code = (
            "import numpy as np, onnxruntime\n"
            f'session = onnxruntime.InferenceSession("{facts.file}")\n'
            f"images = np.zeros({shape}, np.float32)  # normalised\n"
            f"mask = np.zeros((1, {height}, {width}), bool)\n"
            'logits, boxes, *masks = session.run(None, {"images": images, "mask": mask})'
        )
    elif facts.format == "torch_export":
        code = (
            "import torch\n"
            f'detector = torch.export.load("{facts.file}").module()\n'
            f"images = torch.zeros{shape}  # normalised\n"
            f"mask = torch.zeros(1, {height}, {width}, dtype=torch.bool)\n"
            "logits, boxes, *masks = detector(images, mask)"
        )
    else:
        code = (
            f'from safetensors.torch import load_file\nweights = load_file("{facts.file}")  # by the names of DETR\'s '
            "state dict"
        )
    return f"{ours}\n\n```python\n{code}\n```"
