"""The rules of `--preset auto`: facts in, flags with reasons out; nothing is read and nothing printed here.

The numbers start from trials on 205 images with MobileNetV2 on two cores. Those for a GPU are scaled from them and from
the literature (Deformable DETR's batch, rate and width), and not measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..choices import Choice
from .facts import DataFacts, MachineFacts

#: Image passes of a whole training, by device, and the fewest epochs: few images are seen more often.
PASSES = {"cpu": 6_150, "gpu": 20_000}
FEWEST_EPOCHS, MOST_EPOCHS = 12, 300
#: Shorter side of the images in training by device: the usual, and the largest for small objects.
SIDES = {"cpu": (384, 512), "gpu": (640, 800)}
#: Pixels that the shorter sides of nine in ten objects should have: three quarters of a cell of stride 16.
LEAST_OBJECT = 12
#: Steps of the learning rate's rise at least, and as a part of all.
LEAST_WARMUP, WARMUP_PART = 50, 0.03
#: Evaluations of a whole training, about.
EVALUATIONS = 12
#: Part of all steps that the average of the weights reaches back.
EMA_PART = 0.13


@dataclass
class Draft:
    """Choices made so far; what was typed stands, and later choices reckon with it."""

    typed: Mapping[str, Any]
    choices: dict[str, Choice] = field(default_factory=dict)

    def pick(self, name: str, value: Any, reason: str) -> Any:
        """Choose a value for a flag that was not typed; return the value that the flag will have."""
        if name in self.typed:
            return self.typed[name]
        self.choices[name] = Choice(value, reason)
        return value


def choose(
    data: DataFacts,
    machine: MachineFacts,
    typed: Mapping[str, Any],
    backbone: Mapping[str, Choice],
    *,
    trained_backbone: bool,
    architecture: Mapping[str, Choice] | None = None,
) -> dict[str, Choice]:
    """Choose the flags of a training run.

    Args:
        data, machine: what is known.
        typed: values of the flags that were typed, by name; they are not chosen again.
        backbone: choices of the backbone, made before.
        trained_backbone: it starts from trained weights.
        architecture: choices of the whole model, that of a checkpoint to start from; None chooses one.
    """
    draft = Draft(typed)
    for name, choice in ({**backbone} if architecture is None else {**architecture}).items():
        draft.pick(name, choice.value, choice.reason)
    if architecture is None:
        _pick_model(draft, data, machine)
    draft.pick("dropout", 0.0, "a short training on few images learned faster without it")
    _pick_images(draft, data, machine)
    _pick_training(draft, data, machine, trained_backbone=trained_backbone, tuned=architecture is not None)
    _pick_machine(draft, machine)
    if not data.generated:
        draft.pick("fast_resize", True, "resizes two to three times as fast")
    return draft.choices


def _pick_model(draft: Draft, data: DataFacts, machine: MachineFacts) -> None:
    masks, panoptic = draft.typed.get("masks"), draft.typed.get("dataset_file") == "coco_panoptic"
    if masks and panoptic:
        # The merge to panoptic images reads softmax scores with a class "no object", which the focal loss has not.
        draft.pick("queries", "dab", "boxes as queries start sooner; panoptic images need a softmax, not --focal")
    else:
        draft.pick("queries", "encoder", "the encoder proposes boxes: learns within minutes, not days")
        draft.pick("focal", True, "for the encoder's many cells without an object")
    draft.pick("local_attention", True, "a query looks inside its box: helps from the start")
    if not masks and not draft.typed.get("dilation"):
        draft.pick("feature_map", "c4", "stride 16: four times the cells, for small and crowded objects")
    small = machine.gpu is None
    why = "a small transformer: few images, no GPU" if small else "DETR's width, fewer layers"
    for name, value in zip(
        ("hidden_dim", "nheads", "enc_layers", "dec_layers", "dim_feedforward"),
        (128, 4, 2, 3, 512) if small else (256, 8, 3, 6, 1024),
    ):
        draft.pick(name, value, why)
    # Rounded up to tens: 1.5 times the most objects, at least 20 and, as in Deformable DETR, 300 at most.
    queries = min(300, max(20, -(-data.most_objects * 3 // 20) * 10))
    draft.pick("num_queries", queries, f"half as many again as the most objects in an image, {data.most_objects}")


def _pick_images(draft: Draft, data: DataFacts, machine: MachineFacts) -> None:
    if data.generated:  # drawn at their size: there is nothing to resize or to crop
        draft.pick("image_size", 128, "generated images, which have the size that is asked for")
        return
    side, reason = choose_side(data, "gpu" if machine.gpu else "cpu")
    side = draft.pick("image_size", side, reason)
    # --scale_jitter takes the place of scales and crops; flag_checks refuses both together.
    if draft.typed.get("scale_jitter"):
        return
    draft.pick("train_scales", [side], "one scale, that of the evaluation: fewer things to learn at once")
    if not {"crop_resize", "crop_size"} & draft.typed.keys():
        draft.pick("crop_sides", [0.66, 1.0], "half of the images are cropped to two thirds or more of their sides")


def choose_side(data: DataFacts, device: str) -> tuple[int, str]:
    """Return the shorter side of the images in training, and why: for small objects larger, never above the files'."""
    usual, largest = SIDES[device]
    # small_side is a part of the image's shorter side: 12 pixels / 0.02 = a side of 600 pixels.
    wanted = LEAST_OBJECT / max(data.small_side, 1e-6)
    # A multiple of the last stride: a map of 384 / 32 = 12 cells, without a cell that hangs over the edge.
    side = int(min(max(usual, wanted), largest) // 32 * 32)
    file = min(data.height, data.width)
    pixels = f"a tenth of the objects have sides under {data.small_side * min(side, file):.0f} pixels"
    if file < side:
        return file, f"as the files, {data.width} x {data.height}; {pixels}"
    reason = f"{pixels}; files are {data.width} x {data.height}"
    return side, f"{reason}; larger is slow on this device" if wanted > largest else reason


def _pick_training(
    draft: Draft, data: DataFacts, machine: MachineFacts, *, trained_backbone: bool, tuned: bool
) -> None:
    batch, why_batch = choose_batch(machine, norms_train=not (trained_backbone or tuned))
    batch = draft.pick("batch_size", min(batch, data.images), why_batch)
    passes = PASSES["gpu" if machine.gpu else "cpu"] * (1 if trained_backbone or tuned else 2)
    # A budget of image passes, whatever the number of images: on a CPU 100 of them are seen 62 times, 10,000 of them
    # twelve times.
    epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(passes / data.images)))
    # Rounded down: the last incomplete batch of an epoch is left out in training.
    per_epoch = max(1, data.images // (batch * draft.typed.get("accumulate", 1)))
    epochs = draft.pick("epochs", epochs, f"of {per_epoch:,} steps each")
    # --max_steps may end the run earlier; warm-up and average are parts of what is really made.
    steps = min(epochs * per_epoch, draft.typed.get("max_steps") or epochs * per_epoch)
    rates, why = choose_rates(machine, trained_backbone=trained_backbone, tuned=tuned)
    # `pick` returns what was typed, where it was: everything below reckons with the real rate.
    rate = draft.pick("lr", rates[0], why)
    # A typed --lr moves the backbone's in proportion.
    scale = rate / rates[0]
    draft.pick("lr_backbone", float(f"{rates[1] * scale:.2g}"), f"the backbone {_backbone_reason(trained_backbone)}")
    draft.pick("lr_schedule", "onecycle", "one rise and one fall over the whole run")
    # A third of a very short run at most, or it would end before its rate has risen.
    warmup = min(max(LEAST_WARMUP, round(WARMUP_PART * steps)), max(1, steps // 3))
    draft.pick("warmup_steps", warmup, f"of {steps:,} steps")
    draft.pick("clip_max_norm", 0.1 if tuned else 0.5, "as in DETR" if tuned else "gradients of few objects are long")
    # 1 / (1 - decay) is the number of steps that the average reaches back.
    decay = min(0.9998, max(0.98, round(1 - 1 / max(1.0, EMA_PART * steps), 4)))
    draft.pick("ema", decay, f"an average of the weights over about {round(1 / (1 - decay)):,} steps is ahead of them")
    draft.pick("eval_every", max(1, round(epochs / EVALUATIONS)), f"{min(EVALUATIONS, epochs)} evaluations or so")


def choose_batch(machine: MachineFacts, *, norms_train: bool) -> tuple[int, str]:
    """Return the batch size, and why."""
    if norms_train:
        return 8, "batch norms that train need several images"
    if machine.gpu:
        return (8, "fits the GPU") if machine.gpu_memory >= 15 else (4, "a GPU of little memory")
    return (4, "many small steps") if machine.memory >= 4 else (2, "little memory")


def choose_rates(machine: MachineFacts, *, trained_backbone: bool, tuned: bool) -> tuple[tuple[float, float], str]:
    """Return the learning rates of the transformer and of the backbone, and why."""
    if tuned:
        return (5e-5, 1e-5), "a trained detector is changed slowly"
    rate = 2e-4 if machine.gpu else 5e-4
    # Features that are good already are moved by a quarter or two fifths of the rate.
    backbone = rate if not trained_backbone else 5e-5 if machine.gpu else 2e-4
    return (rate, backbone), "for this width; --lr_find looks for another"


def _backbone_reason(trained: bool) -> str:
    return "has been trained, and changes more slowly" if trained else "starts from nothing, and learns as fast"


def _pick_machine(draft: Draft, machine: MachineFacts) -> None:
    # Without a GPU the cores are the ones that train: half of them load.
    workers = min(8, machine.cores) if machine.gpu else min(4, machine.cores // 2)
    draft.pick(
        "num_workers", workers if machine.memory >= 4 else min(1, workers), f"to load images, of {machine.cores} cores"
    )
