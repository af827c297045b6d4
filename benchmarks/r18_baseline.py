"""Compare the losses of the first steps of ResNet-18 with the original's, on the same batches from the same weights.

    python benchmarks/r18_baseline.py --original ../facebookresearch-detr --data_path DIR

Our training set of DIR, augmented from --seed, makes the batches; weights are drawn from it, too. Each implementation
trains on them in a process of its own, with its own model, criterion, optimizer and engine, on one thread and without
dropout, which the two draw in another order. Exit code 1 where a loss differs by more than --tolerance.

`--rounding` trains the original a second time with another library's convolutions, which add up in another order: what
it then differs by from itself is what rounding alone does.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import main as ours
import run_data
from benchmarks.child import Child
from flags.given import with_defaults
from models import build_model
from util.dist.device import seed_everything

ROOT = Path(__file__).resolve().parents[1]
MODEL = "--device cpu --backbone resnet18 --dropout 0 --batch_size 2"


def main() -> int:
    """Train both, print the losses side by side, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--original", type=Path, required=True, help="checkout of facebookresearch/detr")
    parser.add_argument("--data_path", required=True, help="training images in COCO's layout")
    parser.add_argument("--steps", type=int, default=50, help="steps (%(default)s)")
    parser.add_argument("--image_size", type=int, default=128, help="shorter side of the images (%(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="of weights and augmentation (%(default)s)")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference (%(default)s)")
    parser.add_argument(
        "--float64",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="in double precision, where rounding is no difference",
    )
    parser.add_argument("--rounding", action="store_true", help="also the original against itself, rounded otherwise")
    parser.add_argument(
        "--norms",
        choices=("first_batch", "ones"),
        default="first_batch",
        help="statistics in the frozen norms: of the first images, as those of pretrained weights are of theirs, or "
        "variance one, with which the values of random layers explode (%(default)s)",
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "batches.pt"
        num_classes = prepare(args, file)
        flags = MODEL.split()
        order = {"file": str(file), "num_classes": num_classes, "float64": args.float64}
        workers = {
            "ours": Child("r18_worker.py", ROOT, order | {"flags": flags}),
            "original": Child("r18_worker.py", args.original.resolve(), order | {"flags": flags}),
        }
        if args.rounding:
            other = order | {"flags": flags, "without_onednn": True}
            workers["itself"] = Child("r18_worker.py", args.original.resolve(), other)
        losses = {name: worker.work()["losses"] for name, worker in workers.items()}
        for worker in workers.values():
            worker.close()
    return report(losses, args.tolerance)


def prepare(args: argparse.Namespace, file: Path) -> int:
    """Write the first weights and the batches to a file; return the number of classes."""
    words = f"{MODEL} --backbone_weights none --image_size {args.image_size} --num_workers 0 --no_check".split()
    cfg = with_defaults(ours.parse_flags([*words, "--data_path", args.data_path, "--seed", str(args.seed)]))
    seed_everything(args.seed)
    dataset: Any = run_data.build_split("train", cfg)
    # Floats, as the original's transforms end with.
    # Two images a step; past the end the set begins again, with other random crops.
    images = [dataset[step % len(dataset)] for step in range(2 * args.steps)]
    floats = [(_normalised(image), dict(target)) for image, target in images]
    # The class count of the original for dataset_file coco.
    model, _, _ = build_model(argparse.Namespace(**vars(cfg) | {"num_classes": 91}))
    state = model.state_dict()
    if args.norms == "first_batch":
        set_norms(state, [image for image, _ in floats[:2]])
    torch.save({"model": state, "batches": [floats[k : k + 2] for k in range(0, len(floats), 2)]}, file)
    return 91


def set_norms(state: dict[str, torch.Tensor], images: list[torch.Tensor]) -> None:
    """Give the frozen norms of a state dict mean and variance of what they see of images (3, H, W), one by one."""
    prefix = "backbone.0.body."
    network = torchvision.models.resnet18(norm_layer=partial(torch.nn.BatchNorm2d, momentum=None))
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    # Not strict: frozen norms count no batches, and the detector's backbone has no classifier.
    network.load_state_dict(own, strict=False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
    with torch.no_grad():
        for image in images:  # momentum None: the mean of all
            network(image[None])
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            state[prefix + name].copy_(value)


def _normalised(image: torch.Tensor) -> torch.Tensor:
    """Return an image (3, H, W) of bytes as the original's transforms leave it."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (image.float() / 255 - mean[:, None, None]) / std[:, None, None]


def report(losses: dict[str, list[float]], tolerance: float) -> int:
    """Print every tenth step and the largest difference; return 1 where that is above the tolerance."""
    # Ours against the original, and the original against itself, rounded otherwise: the scale for the first.
    of_pairs = {
        name: [abs(a - b) for a, b in zip(losses[name], losses["original"], strict=True)]
        for name in losses
        if name != "original"
    }
    print(f"{'step':>4}{'original':>12}{'ours':>12}{'difference':>12}{'from itself':>13}")
    for k, (theirs, mine) in enumerate(zip(losses["original"], losses["ours"])):
        if k == 0 or k % 10 == 9:
            columns = "".join(f"{differences[k]:12.1e}" for differences in of_pairs.values())
            print(f"{k + 1:4}{theirs:12.6f}{mine:12.6f}{columns}")
    for name, differences in of_pairs.items():
        words = "ours" if name == "ours" else "the original from itself, rounded otherwise"
        place = differences.index(max(differences)) + 1
        print(f"largest difference of {len(differences)} steps, {words}: {max(differences):.1e} (step {place})")
    return int(max(of_pairs["ours"]) > tolerance)


if __name__ == "__main__":
    sys.exit(main())
