"""Sparse attention: the right probabilities and gradients, exact zeros, and models that train and load with it."""

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import building
import main
from models import build_model
from models.attention import AttentionMaps
from models.checkpoint_config import architecture_of
from models.variants import entmax as entmax_steps
from models.variants.entmax import alpha_entmax, entmax15, sparsemax
from models.variants.sparse_attention import Normalizer, learned_alphas, make_normalizer
from tests.helpers import SMALL, TINY, Run, assert_refused, batch, rows
from util.choices import ATTENTIONS
from util.runs.schedule import build_lr_scheduler

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")

SPARSE = ATTENTIONS[1:]
ALL = " ".join(f"--{place} {{0}}" for place in ("encoder_attention", "decoder_self_attention", "cross_attention"))
needs_entmax = pytest.mark.skipif(
    importlib.util.find_spec("entmax") is None, reason="the package entmax is not installed (requirements-extra.txt)"
)


def normalizer(name: str) -> Normalizer:
    made = make_normalizer(name, heads=2, topk=3)
    assert made is not None
    return made


def built(flags: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    return build_model(main.parse_flags(f"{SMALL} {flags}".split()))[:2]


# ---- the numbers


@needs_entmax
@pytest.mark.parametrize("scale", [0.02, 1.0, 8.0])
def test_probabilities_and_gradients_are_those_of_the_package(scale: float) -> None:
    import entmax

    torch.manual_seed(0)
    z, gradient = torch.randn(2, 3, 50, 300) * scale, torch.randn(2, 3, 50, 300)
    alpha = torch.tensor([1.05, 1.4, 1.95]).view(3, 1, 1)
    pairs = [
        (sparsemax, lambda x, _: entmax.sparsemax(x, -1)),
        (entmax15, lambda x, _: entmax.entmax15(x, -1)),
        (alpha_entmax, lambda x, a: entmax.entmax_bisect(x, a, n_iter=80)),
    ]
    for ours, theirs in pairs:
        x, a = z.clone().requires_grad_(), alpha.clone().requires_grad_()
        # In float64: the package's float32 is off by as much as ours.
        wide, wide_a = z.double().requires_grad_(), alpha.double().requires_grad_()
        p = ours(x, a) if ours is alpha_entmax else ours(x)  # type: ignore[operator]
        expected = theirs(wide, wide_a)
        assert_close(p, expected.float(), atol=1e-6, rtol=0)
        p.backward(gradient)
        expected.backward(gradient.double())
        assert_close(x.grad, wide.grad.float(), atol=1e-4, rtol=1e-4)  # type: ignore[union-attr]
        if ours is alpha_entmax:
            assert_close(a.grad, wide_a.grad.float(), atol=0.5, rtol=1e-2)  # type: ignore[union-attr]


def test_gradients_are_right_also_of_alpha() -> None:
    torch.manual_seed(0)
    z = torch.randn(1, 3, 2, 6, dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor([1.05, 1.5, 1.9], dtype=torch.float64).view(3, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(sparsemax, (z,))
    assert torch.autograd.gradcheck(entmax15, (z,))
    assert torch.autograd.gradcheck(alpha_entmax, (z, alpha))


def test_scores_made_to_need_many_steps_still_give_rows_that_add_up_to_1() -> None:
    # Each score a little below the last, by ever smaller steps: the support shrinks slowly.
    falling = -(1 - 0.5 ** torch.arange(24.0)).repeat_interleave(40)[None]
    for z in (falling, torch.zeros(1, 5000), torch.linspace(-1, 0, 4000)[None], torch.tensor([[3.0]])):
        for probabilities in (
            sparsemax(z),
            entmax15(z),
            alpha_entmax(z, torch.tensor([1.01])),
            alpha_entmax(z, torch.tensor([2.0])),
        ):
            assert_close(probabilities.sum(-1), torch.ones(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("hidden", [-torch.inf, -1e4, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("name", SPARSE)
def test_hidden_keys_get_exactly_nothing_in_any_precision(name: str, hidden: float) -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 2, 4, 30)
    scores[..., 20:] += hidden
    with torch.autocast("cpu", torch.bfloat16):
        weights = normalizer(name)(scores)
    assert weights.dtype == torch.float32
    assert (weights[..., 20:] == 0).all() and (weights[..., :20] == 0).any() and (weights >= 0).all()
    assert_close(weights.sum(-1), torch.ones(2, 2, 4), atol=1e-5, rtol=0)
    order = torch.randperm(30)
    assert_close(normalizer(name)(scores[..., order]), weights[..., order], atol=1e-6, rtol=0)
    if name == "topk":
        assert ((weights > 0).sum(-1) == 3).all()


@pytest.mark.parametrize("name", SPARSE)
def test_a_row_without_any_key_gives_zeros_and_no_nan(name: str) -> None:
    scores = torch.full((1, 2, 2, 5), -torch.inf)
    scores[0, 0, 0] = torch.arange(5.0)
    scores.requires_grad_()
    weights = normalizer(name)(scores)
    weights.square().sum().backward()
    assert weights.sum(-1).detach().flatten().round(decimals=5).tolist() == [1, 0, 0, 0]
    assert scores.grad is not None and scores.grad.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["entmax15", "alpha_entmax", "topk"])
def test_the_compiler_takes_it_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(entmax_steps.STEPS, torch.float32, 6)  # all are alike, and tracing each takes time
    torch.manual_seed(0)
    module, scores = normalizer(name), torch.randn(2, 2, 5, 20, requires_grad=True)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    results = []
    for run in (module, compiled):
        scores.grad = None
        weights = run(scores)
        (weights * torch.arange(20.0)).sum().backward()
        results.append((weights.detach(), scores.grad))
    assert_close(results[1], results[0], atol=1e-5, rtol=1e-5)


# ---- models


@pytest.mark.parametrize(
    "flags",
    [
        ALL.format("sparsemax"),
        ALL.format("alpha_entmax"),
        "--queries encoder --focal --groups 2 --grad_checkpoint --cross_attention alpha_entmax",
        "--queries dab --local_attention --cross_attention entmax15 --decoder_self_attention topk --topk 2",
    ],
)
def test_models_train_and_give_the_sparse_maps(flags: str) -> None:
    model, criterion = built(flags)
    images, targets = batch(side=160)
    criterion.total(criterion(model(images), targets)).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    # In the first layer all queries have the same content, so their attention to each other changes nothing.
    alphas = {name: p.grad for name, p in model.named_parameters() if "alpha" in name and "layers.0.self" not in name}
    assert all(gradient.abs().sum() > 0 for gradient in alphas.values())
    maps = AttentionMaps()
    with torch.no_grad():
        outputs, plain = model.eval()(images, attention=maps), model(images)
    assert torch.equal(outputs["pred_boxes"], plain["pred_boxes"])
    assert_close(maps.decoder[1].sum(-1), torch.ones(2, 4, 5), atol=1e-5, rtol=0)
    assert (maps.decoder[1] == 0).any() or "topk" in flags


def test_padding_changes_nothing() -> None:
    model = built("--padding_invariant " + ALL.format("entmax15"))[0].eval()
    image, larger = torch.randn(3, 96, 128), torch.randn(3, 200, 170)
    with torch.no_grad():
        alone, beside = model([image]), model([image, larger])
    assert_close(beside["pred_logits"][:1], alone["pred_logits"], atol=1e-4, rtol=1e-4)


def test_the_softmax_is_plain_detr_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    states: list[dict[str, Tensor]] = []
    for flags in ("", ALL.format("softmax")):
        model, criterion = built(flags)
        images, targets = batch()
        with torch.profiler.profile() as profile:
            criterion.total(criterion(model(images), targets)).backward()
        ran.append(sorted(f"{event.key} {event.count}" for event in profile.key_averages() if "aten::" in event.key))
        states.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert ran[0] == ran[1] and all(torch.equal(states[1][name], states[0][name]) for name in states[0])
    assert not any("normalizer" in name for name in states[0])
    sparse = built(ALL.format("sparsemax"))[0].state_dict()
    own = built("")[0].state_dict()
    assert list(sparse) == list(own) and all(torch.equal(sparse[name], own[name]) for name in own)


def test_alphas_have_a_group_of_their_own_whose_rate_does_not_fall() -> None:
    plain, model = built("")[0], built(ALL.format("alpha_entmax"))[0]
    rates = {"lr": 1e-3, "lr_backbone": 1e-4, "weight_decay": 0.1}
    expected = building.build_optimizer(plain, **rates).param_groups
    groups = (optimizer := building.build_optimizer(model, **rates, alpha_lr_mult=5)).param_groups
    assert [len(g["params"]) for g in groups] == [*(len(g["params"]) for g in expected), 5]
    assert [p.shape for p in groups[0]["params"]] == [p.shape for p in expected[0]["params"]]
    assert groups[2]["lr"] == 5e-3 and groups[2]["weight_decay"] == 0
    scheduler = build_lr_scheduler(
        optimizer, schedule="step", total_steps=4, steps_per_epoch=1, lr_drop=2, warmup_steps=1
    )
    seen = [scheduler.get_last_lr()]
    for _ in range(3):
        optimizer.step()
        scheduler.step()
        seen.append(scheduler.get_last_lr())
    assert [round(r[0], 7) for r in seen] == [5e-4, 1e-3, 1e-4, 1e-4]
    assert [round(r[2], 7) for r in seen] == [2.5e-3, 5e-3, 5e-3, 5e-3]
    assert scheduler.state_dict()["lr_lambdas"] == [None] * 3
    alphas = learned_alphas(model)
    assert len(alphas) == 5 and alphas["transformer.decoder.layers.1.multihead_attn"] == pytest.approx([1.5] * 4)


# ---- checkpoints and flags


def test_checkpoints_know_their_attention_and_a_softmax_goes_on_as_another() -> None:
    flags = {"nheads": 4, "cross_attention": "topk", "topk": 7, "encoder_attention": "nonsense"}
    weights = built("--decoder_self_attention alpha_entmax")[0].state_dict()
    architecture, line = architecture_of({"model": weights, "args": flags}, "a.pth")
    assert (architecture.cross_attention, architecture.topk, architecture.encoder_attention) == ("topk", 7, "softmax")
    assert architecture.decoder_self_attention == "alpha_entmax" and "--cross_attention topk" in line
    plain = {"model": built("")[0].state_dict(), "args": {"cross_attention": "softmax", "topk": 32}}
    assert "attention" not in architecture_of(plain, "a.pth")[1]
    changed = architecture_of(plain, "a.pth", given={"cross_attention": "entmax15"})[0]
    assert changed.cross_attention == "entmax15"


@pytest.mark.slow
def test_a_run_trains_alphas_resumes_and_is_evaluated_without_flags(run: Run, tmp_path: Any) -> None:
    flags = f"{TINY} --cross_attention alpha_entmax --output_dir {tmp_path}"
    assert run(f"{flags} --epochs 1")[0] == 0
    code, out, err = run(f"{flags} --epochs 2 --resume auto")
    assert code == 0, err
    assert len(rows(tmp_path)) == 2
    saved = torch.load(tmp_path / "checkpoint.pth")["model"]
    alphas = saved["transformer.decoder.layers.0.multihead_attn.normalizer.alpha_logits"]
    assert alphas.unique().numel() == 2, "each head learns its own"
    code, out, _ = run(f"{TINY} --eval --resume {tmp_path / 'checkpoint.pth'}")
    assert code == 0 and "--cross_attention alpha_entmax (its weights)" in out
    assert_refused(
        run(f"{TINY} --eval --cross_attention softmax --resume {tmp_path / 'checkpoint.pth'}"), "alpha_entmax"
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--topk 5", ["--topk", "--cross_attention topk"]),
        ("--cross_attention topk --topk 0", ["--topk 0", "at least 1"]),
        ("--alpha_lr_mult 3", ["--alpha_lr_mult", "alpha_entmax"]),
    ],
)
def test_flags_that_would_do_nothing_are_refused(flags: str, words: list[str], run: Run) -> None:
    assert_refused(run(f"{TINY} {flags}"), *words)
