"""Hugging Face's DETR: a checkpoint as a folder that `from_pretrained` loads, and back."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import CheckpointError, UserError
from ..runs.atomic import atomic_file
from ..runs.checkpoint import load_checkpoint, save_checkpoint
from ..runs.class_names import known_names
from .huggingface_card import model_card
from .huggingface_config import (
    config_from_flags,
    flags_from_config,
    kind_of,
    kind_of_config,
    names_from_config,
    preprocessor,
)
from .huggingface_names import Renaming

WEIGHTS, CONFIG, PREPROCESSING, CARD = "model.safetensors", "config.json", "preprocessor_config.json", "README.md"
#: Facts of a checkpoint that a config has no place for; they are kept as metadata of the weights.
_KEPT = ("category_ids", "is_thing")
_METADATA = "detr"
#: Returns the flags that decide on the model of a checkpoint, by name; a path is for messages.
ArchitectureOf = Callable[[Mapping[str, Any], Path], dict[str, Any]]


def convert(source: Path, output: Path, *, back: bool, architecture: ArchitectureOf) -> list[str]:
    """Write a folder from a checkpoint, or with `back` or from a folder a checkpoint; return lines that say what.

    Raises UserError for what the other side cannot hold, and for files that are missing or no DETR.
    """
    if is_back(source, back):
        return _to_checkpoint(source, output, architecture)
    return _to_folder(source, output, architecture)


def is_back(source: Path, back: bool) -> bool:
    """True where `source` is to become a checkpoint."""
    return back or source.is_dir()


def _to_folder(source: Path, folder: Path, architecture: ArchitectureOf) -> list[str]:
    checkpoint = load_checkpoint(source)
    run = checkpoint.get("args")
    run = run if isinstance(run, Mapping) else {}
    flags = architecture(checkpoint, source) | ({"dropout": run["dropout"]} if "dropout" in run else {})
    kind = kind_of(flags, str(source))
    stored = {name.removeprefix("module."): value for name, value in checkpoint["model"].items()}
    # Renamed before anything is written: an unknown weight leaves no half folder behind.
    weights, unknown = Renaming(timm=kind.timm, masks=kind.masks, table=kind.table).there(stored)
    _refuse(source, unknown)
    names, words = known_names(checkpoint)
    size = run.get("image_size") or 800
    files = {
        CONFIG: _json(config_from_flags(flags, kind, names)),
        PREPROCESSING: _json(preprocessor(size, run.get("max_size"), masks=kind.masks)),
        CARD: model_card(flags, kind, names, source=source.name, ap=checkpoint.get("ap")),
    }
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give the name of a folder to write into")
    _write(folder, weights, _metadata(checkpoint), files)
    lines = [f"wrote {folder}: {len(weights)} tensors for transformers' {kind.class_name}{words}"]
    if kind.timm:
        lines.append(
            "its backbone is timm's, as transformers itself has none such: pip install timm where it is loaded"
        )
    if flags.get("padding_invariant"):
        lines.append("note: nothing there erases padding as --padding_invariant does; run images one at a time")
    return lines


def _to_checkpoint(folder: Path, file: Path, architecture: ArchitectureOf) -> list[str]:
    config = read_json(folder, CONFIG)
    kind = kind_of_config(config, str(folder))
    stored, metadata = _read_weights(folder)
    weights, unknown = Renaming(timm=kind.timm, masks=kind.masks, table=kind.table).back(stored)
    _refuse(folder, unknown)
    size = read_json(folder, PREPROCESSING) if (folder / PREPROCESSING).is_file() else {}
    checkpoint: dict[str, Any] = {"model": weights, "args": flags_from_config(config, size)}
    # What the weights tell is surer than what the config says.
    checkpoint["args"] |= architecture(checkpoint, folder)
    names = names_from_config(config)
    checkpoint |= ({"class_names": names} if names else {}) | metadata
    if file.is_dir():
        raise UserError(f"{file}: is a folder; give the name of a file to write, such as {file / 'model.pth'}")
    save_checkpoint(file, checkpoint)
    named = f"{len(names)} class names" if names else "no class names"
    return [f"wrote {file}: {len(weights)} tensors, {named}"]


def _refuse(path: Path, unknown: list[str]) -> None:
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise CheckpointError(f"{path}: holds weights that are not those of a DETR: {', '.join(unknown[:3])}{more}")


def _metadata(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    # Lists of pairs, as JSON would make texts of the ids.
    kept = {key: list(checkpoint[key].items()) for key in _KEPT if isinstance(checkpoint.get(key), Mapping)}
    # transformers 4 refuses files that do not say "pt".
    return {"format": "pt"} | ({_METADATA: json.dumps(kept)} if kept else {})


def _write(folder: Path, weights: Mapping[str, Tensor], metadata: dict[str, str], files: Mapping[str, str]) -> None:
    save = _safetensors().torch.save
    # Clones, because queries, keys and values are views of one tensor.
    data = save({name: value.contiguous().clone() for name, value in weights.items()}, metadata=metadata)
    try:
        for name, content in {WEIGHTS: data, **{name: text.encode() for name, text in files.items()}}.items():
            with atomic_file(folder / name) as file:
                file.write(content)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from error


def _read_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = folder / WEIGHTS
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(os.fspath(path), "pt") as file:
            kept = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
            # float32, as everything here reads; a folder may hold half precision
            weights = {name: file.get_tensor(name).float() for name in file.keys()}
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: has no {WEIGHTS}; other kinds of files are not read: save the model anew with transformers"
        ) from None
    except (OSError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: truncated, damaged, or not weights at all") from error
    return weights, {key: dict(map(tuple, kept[key])) for key in _KEPT if key in kept}


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of a JSON file of a folder. Raises UserError where there is none."""
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: no folder of Hugging Face: it has no {name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder / name}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{folder / name}: is no JSON object")
    return content


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError:
        raise UserError("Hugging Face's files need the package safetensors: pip install safetensors") from None
    return safetensors
