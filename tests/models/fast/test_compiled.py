"""--compile: the same numbers, a count of graphs, a word where nothing happens, and a refusal without a compiler."""

import pytest
import torch
from torch import Tensor, nn

from engine import compute_losses
from models.fast.compiled import LayerCompiler
from tests.helpers import batch, build
from util.errors import UserError

pytestmark = pytest.mark.usefixtures("narrow_resnet18")


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Body(nn.Module):
    """A network of one convolution, which is compiled as one of a hundred is."""

    def __init__(self) -> None:
        super().__init__()
        self.layer4 = nn.Conv2d(3, 8, 32, stride=32)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"0": self.layer4(images).relu()}


@pytest.mark.slow
def test_numbers_and_names_stay_and_graphs_are_counted() -> None:
    torch.manual_seed(0)
    model, criterion, _ = build("--enc_layers 2")
    model.backbone[0].body, model.input_proj = Body(), nn.Conv2d(8, model.input_proj.out_channels, 1)
    names = list(model.state_dict())
    expected = compute_losses(model, criterion, *batch())[1]
    compiled = LayerCompiler(model, backend="aot_eager")
    assert list(model.state_dict()) == names
    losses = compute_losses(model, criterion, *batch())[1]
    criterion.total(losses).backward()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5)
    assert model.backbone[0].body.layer4.weight.grad is not None
    # Twice for decoder layers: what the first decodes are constants, without a gradient.
    assert dict(compiled.graphs) == {"backbone": 1, "encoder layer": 1, "decoder layer": 2}
    assert "4 graphs compiled" in compiled.news() and compiled.news() is None
    compute_losses(model, criterion, *batch())
    assert compiled.news() is None
    compute_losses(model, criterion, *batch(2, side=96))
    assert "again, for other shapes" in compiled.news() and compiled.graphs["backbone"] == 2


def test_nothing_compiled_is_said() -> None:
    compiled = LayerCompiler(build()[0], backend="eager")
    assert "nothing was compiled" in compiled.news()


def test_without_a_compiler_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(UserError, match=r"--compile needs a C\+\+ compiler.*g\+\+"):
        LayerCompiler(build()[0])
