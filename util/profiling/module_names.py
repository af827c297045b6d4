"""Names of modules as their ranges have them: `backbone.layer3`, `transformer.encoder.layers.2.self_attn`."""

#: What DistributedDataParallel and the mask head's model call the detector inside them.
WRAPPERS = ("module", "detr")
#: The backbone's own containers: the network in them has the readable names.
_IN_BACKBONE = {"0": "", "body": "", "1": "position_encoding"}


def range_name(path: str, *, depth: int) -> str:
    """Return the name of a module's range: its path in the model without wrappers, cut to `depth` levels.

    The number of a list of `layers` belongs to it: `transformer.encoder.layers.2.self_attn` has four levels, and
    `backbone.layer3.5.conv1` has. The model itself has none, "".
    """
    levels: list[str] = []
    for part in path.split("."):
        if not levels and part in WRAPPERS:
            continue
        if levels == ["backbone"] and part in _IN_BACKBONE:
            part = _IN_BACKBONE[part]
        # The number alone would be a level without a meaning: `transformer.encoder.layers` would be all six together.
        if part.isdigit() and levels and levels[-1] == "layers":
            levels[-1] = f"layers.{part}"
        elif part:
            levels.append(part)
    return ".".join(levels[:depth])
