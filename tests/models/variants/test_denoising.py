"""Noised truth as queries: what is noised, who sees it, what it costs, and that nothing else knows of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import building
from engine import compute_losses
from models.variants import denoising
from models.variants.denoising import Denoising, noise_boxes, noise_labels
from tests.helpers import TINY, Run, batch, rows
from tests.models.variants.test_groups import IMAGES, TARGETS, built
from tests.processes import Started, start_two
from util.dist.distributed import init_distributed, shutdown
from util.nested_tensor import nested_tensor_from_tensor_list

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

KINDS = ("--queries dab", "--queries dab --groups 2 --local_attention", "--queries encoder --focal --local_attention")


def objects(count: int) -> dict[str, torch.Tensor]:
    """A target of so many objects."""
    return {"labels": torch.arange(count) % 4, "boxes": torch.rand(count, 4) * 0.4 + 0.3}


def exact(patch: pytest.MonkeyPatch) -> None:
    """Leave the noise out, so that equal objects are equal queries."""
    patch.setattr(denoising, "noise_boxes", lambda boxes: boxes)
    patch.setattr(denoising, "noise_labels", lambda labels, _: labels)


def test_boxes_move_by_two_fifths_of_half_a_side_at_most_and_a_fifth_of_the_labels_are_drawn() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([0.5, 0.5, 0.4, 0.2]).expand(2000, 4)
    moved = (noise_boxes(boxes) - boxes).abs().amax(0)
    assert_close(moved, torch.tensor([0.08, 0.04, 0.16, 0.08]), rtol=0.01, atol=0)
    outside = noise_boxes(torch.tensor([1.0, 0.0, 1.0, 1.0]).expand(100, 4))
    assert outside.min() >= 0 and outside.max() <= 1
    labels = noise_labels(torch.full((4000,), 3), 10)
    assert labels.max() == 9 and (labels != 3).float().mean().item() == pytest.approx(0.2 * 0.9, abs=0.02)


def test_places_come_in_eights_and_those_without_an_object_are_hidden() -> None:
    module = Denoising(16, 4, groups=2, most=9)
    noised = module([objects(3), objects(0), objects(12) | {"num_objects": 9}])
    assert noised.queries.boxes.shape == (3, 2 * 16, 4)
    assert (~noised.queries.hidden).sum(1).tolist() == [6, 0, 18]
    assert noised.labels.tolist() == [0, 1, 2] * 2 + [i % 4 for i in range(9)] * 2
    assert module([objects(0)]).queries.boxes.shape == (1, 2 * 8, 4)
    assert len(module([objects(30)]).labels) == 2 * 9, "no more than can be matched"


@pytest.mark.parametrize("kind", KINDS)
def test_matching_queries_and_their_losses_do_not_know_of_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, criterion = built(f"{kind} --denoising 2")
    matched: list[int] = []
    match = criterion.matcher.match_layers

    def note(layers: Any, targets: Any) -> Any:
        matched.extend(layer["pred_logits"].shape[1] for layer in layers)
        return match(layers, targets)

    monkeypatch.setattr(criterion.matcher, "match_layers", note)
    expected = criterion(model(IMAGES), TARGETS)
    without, matched[:] = list(matched), []
    losses = criterion(model(IMAGES, targets=TARGETS), TARGETS)
    assert matched == without
    for name, value in expected.items():
        assert_close(losses[name], value, atol=1e-5, rtol=1e-4)
    assert {name for name in losses if "_dn" in name} == set(losses) - set(expected) != set()


@pytest.mark.parametrize("kind", KINDS)
def test_groups_and_empty_places_do_not_change_each_other(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact(monkeypatch)
    crowd = objects(11)
    model, criterion = built(f"{kind} --denoising 3 --num_queries 12")
    few, many = (model(IMAGES, targets=[TARGETS[0], other])["denoising"] for other in (TARGETS[1], crowd))
    # Three groups of the first image's two objects: equal, and the same among 8 places and among 16.
    for name in ("pred_logits", "pred_boxes"):
        first = few[name][0].unflatten(0, (3, 2))
        assert_close(first[1], first[0], atol=1e-5, rtol=1e-4)
        assert_close(many[name][0, :6], few[name][0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(few["pred_boxes"][0, 0], few["pred_boxes"][0, 1])


@pytest.mark.parametrize("focal", ["", "--focal"])
def test_the_loss_is_that_of_known_pairs_over_the_number_of_noised_objects(focal: str) -> None:
    criterion = built(f"--queries dab --denoising 2 {focal}")[1]
    truth = {"labels": torch.tensor([1, 2, 1, 2]), "boxes": TARGETS[0]["boxes"].repeat(2, 1)}
    # The second object's box lies at the first one's place in both groups: no matcher mends that.
    boxes = truth["boxes"][[0, 0, 2, 2]][None]
    outputs = {"pred_logits": torch.zeros(1, 4, 5), "pred_boxes": boxes, "truth": truth}
    losses = criterion.loss_denoising(outputs, 2.0)
    assert losses["loss_bbox_dn"].item() == pytest.approx((0.3 + 0.2 + 0.1 + 0.1) * 2 / 4, rel=1e-5)
    own = 0.25**2 + 3 * 0.75 * 0.25  # of one query: its class, and three that it is not
    expected = torch.tensor(2.0).log() * own if focal else torch.tensor(5.0).log()
    assert_close(losses["loss_ce_dn"], expected)
    assert_close(criterion.loss_denoising(outputs, 4.0)["loss_bbox_dn"] * 2, losses["loss_bbox_dn"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_objects_costs_nothing_and_reaches_every_parameter(kind: str) -> None:
    model, criterion = built(f"{kind} --denoising 2")
    _, losses = compute_losses(model, criterion, nested_tensor_from_tensor_list(IMAGES), [TARGETS[1], TARGETS[1]])
    criterion.total(losses).backward()
    assert all(bool(value.isfinite()) for value in losses.values())
    assert losses["loss_ce_dn"] == losses["loss_bbox_dn"] == 0
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_recomputed_layers_give_the_same_gradient_and_a_seed_the_same_noise() -> None:
    found = []
    for flags in ("", "--grad_checkpoint"):
        model, criterion = built(f"--queries encoder --focal --denoising 2 --groups 2 --dropout 0.1 {flags}")
        torch.manual_seed(1)
        _, losses = compute_losses(model, criterion, nested_tensor_from_tensor_list(IMAGES), TARGETS)
        criterion.total(losses).backward()
        found.append([losses["loss_bbox_dn"].detach(), model.denoising.class_embed.weight.grad])
    assert_close(found[0], found[1])


def test_an_evaluation_has_no_noise() -> None:
    model, criterion = built("--queries dab --denoising 2")
    outputs, losses = compute_losses(model.eval(), criterion.eval(), nested_tensor_from_tensor_list(IMAGES), TARGETS)
    assert "denoising" not in outputs and not [name for name in losses if "_dn" in name]


def save_gradient(path: Path) -> None:
    """Save the gradient of four images without noise, two of which have no objects: in one process or two halves."""
    exact(pytest.MonkeyPatch())
    launch = init_distributed(device="cpu")
    model, criterion = built("--queries dab --denoising 2 --groups 2 --focal")
    wrapped = building.wrap_model(model, launch)
    samples, targets = batch(4)
    targets = [*targets[:2], TARGETS[1], TARGETS[1]]
    mine = slice(2 * launch.rank, 2 * launch.rank + 2) if launch.distributed else slice(4)
    for _ in range(2):  # the second time fails where a parameter had no part in the first
        model.zero_grad()
        _, losses = compute_losses(
            wrapped, criterion, nested_tensor_from_tensor_list(samples.tensors[mine]), targets[mine]
        )
        criterion.total(losses).backward()
    if launch.rank == 0:
        torch.save({n: p.grad for n, p in model.named_parameters() if p.grad is not None}, path)
    shutdown()


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    single = Started(save_gradient, tmp_path / "one")
    for code, _, err in [*start_two(save_gradient, tmp_path / "two"), single.end()]:
        assert code == 0, err
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one", "two"))
    assert one.keys() == two.keys() and "denoising.class_embed.weight" in one
    for name in one:
        assert_close(two[name], one[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn_curves")
def test_a_run_starts_from_a_checkpoint_without_them_resumes_and_is_evaluated_from_its_own(
    run: Run, tmp_path: Path
) -> None:
    from inference.detector import Detector

    few = f"{TINY} --queries dab --num_queries 3 --batch_size 2 --amp bf16"
    assert run(f"{few} --epochs 1 --output_dir {tmp_path}/plain")[0] == 0
    more = f"{few} --denoising 2 --groups 2 --accumulate 2 --grad_checkpoint --output_dir {tmp_path}/more"
    code, out, _ = run(f"{more} --epochs 1 --init_from {tmp_path}/plain/checkpoint.pth")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("--init_from")]
    assert line.count("not in the checkpoint") == 3
    for name in ("group_queries.weight", "group_anchors.weight", "denoising.class_embed.weight"):
        assert f"{name}: not in the checkpoint" in line
    code, out, _ = run(f"{more} --epochs 2 --resume auto --denoising 3")  # the number of groups is free
    assert code == 0 and "resuming at epoch 1" in out
    assert (
        rows(tmp_path / "more")[-1]["train_loss_bbox_dn"] > 0 and "test_loss_bbox_dn" not in rows(tmp_path / "more")[-1]
    )
    checkpoint = tmp_path / "more" / "checkpoint.pth"
    code, _, error = run(f"{few} --resume {checkpoint} --epochs 3")
    assert code == 2 and "--groups 2 --denoising 3" in error and len(error.strip().splitlines()) == 1
    data = "--device cpu --dataset_file shapes --val_size 4 --num_workers 0"
    code, out, _ = run(f"{data} --eval --resume {checkpoint} --output_dir {tmp_path}/eval")
    assert code == 0 and "--groups 2 --denoising 3" in out
    detector = Detector(checkpoint, device="cpu", threshold=0)
    assert detector(torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()).queries.max() < 3
