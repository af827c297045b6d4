"""The README.md of a Hugging Face folder: what the model is and how it is run."""

from collections.abc import Mapping
from typing import Any

from .huggingface_config import Kind

#: Class names in the card, at most.
SHOWN = 100


def model_card(
    flags: Mapping[str, Any], kind: Kind, class_names: Mapping[int, str] | None, *, source: str, ap: Any
) -> str:
    """Return the page as markdown.

    Args:
        flags: the fields of an `Architecture`.
        kind: the class that loads the folder.
        class_names: by label.
        source: name of the checkpoint.
        ap: AP that the checkpoint holds, None or anything else where it holds none.
    """
    names = list((class_names or {}).values())
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    parts = [
        "---\nlibrary_name: transformers\n"
        f"pipeline_tag: {'image-segmentation' if kind.masks else 'object-detection'}\ntags:\n- detr\n---",
        f"# DETR, {flags['backbone']}",
        "A detector of End-to-End Object Detection with Transformers (Carion et al. 2020), converted from "
        f"`{source}`: {flags['enc_layers']} encoder and {flags['dec_layers']} decoder layers of width "
        f"{flags['hidden_dim']}, {flags['num_queries']} queries.",
        *([f"AP of its training run's last evaluation: {ap:.3f}."] if isinstance(ap, float) else []),
        f"Classes: {', '.join(names[:SHOWN])}{more}." if names else "The checkpoint has no names for its classes.",
        "```python\nfrom transformers import AutoImageProcessor, " + f"{kind.class_name}\n\n"
        'processor = AutoImageProcessor.from_pretrained("FOLDER")\n'
        f'model = {kind.class_name}.from_pretrained("FOLDER")\n'
        'outputs = model(**processor(images=image, return_tensors="pt"))\n```',
        *(["Its backbone is timm's: `pip install timm`."] if kind.timm else []),
        "Code and published weights of DETR are under Apache 2.0. Weights that were trained on other data may be bound "
        "by the licence of that data.",
    ]
    return "\n\n".join(parts) + "\n"
