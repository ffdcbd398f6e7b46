from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession
from torch import Tensor, nn

from offramp.compiler.errors import UserError
from offramp.compiler.frontends.torch import from_torch
from offramp.compiler.ir import Branch, Program
from offramp.compiler.ir.to_onnx import to_onnx


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8 * 4, 5)

    def forward(self, image: Tensor) -> Tensor:
        features = nn.functional.hardswish(self.depthwise(self.stem(image)))
        return cast("Tensor", self.head(self.drop(features).flatten(1)))


class Nested(nn.Module):
    """`torch.cond` inside `torch.cond`, with weights in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        def inner(h: Tensor) -> Tensor:
            chosen: Tensor = torch.cond(h.mean() > 1, self.layers[0], self._shifted, (h,))
            return chosen

        y: Tensor = torch.cond(x.sum() > 0, inner, self._doubled, (x,))
        return y

    def _shifted(self, h: Tensor) -> Tensor:
        return cast("Tensor", self.layers[1](h) - 1)

    def _doubled(self, h: Tensor) -> Tensor:
        return cast("Tensor", self.layers[2](h) * 2)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 3))


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)


def answers(program: Program, *inputs: Tensor) -> np.ndarray:
    """What onnxruntime answers, each sample alone."""
    session = cast("Any", InferenceSession(to_onnx(program).SerializeToString()))
    names = [str(value.name) for value in program.inputs]
    return np.concatenate(
        [
            session.run(
                None, {n: x[i : i + 1].numpy() for n, x in zip(names, inputs, strict=True)}
            )[0]
            for i in range(len(inputs[0]))
        ]
    )


def assert_agrees(program: Program, model: nn.Module, *inputs: Tensor) -> None:
    """The Program and torch give the same answer to each sample."""
    with torch.no_grad():
        expected = torch.cat(
            [model.eval()(*(x[i : i + 1] for x in inputs)) for i in range(len(inputs[0]))]
        )
    np.testing.assert_allclose(answers(program, *inputs), expected, rtol=1e-4, atol=1e-5)


MODELS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (Cnn, (3, 8, 8)),
    (mlp, (6,)),
    (encoder, (5, 16)),
]


@pytest.mark.parametrize(("build", "shape"), MODELS)
def test_modules_agree_with_torch(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = build(), torch.randn(4, *shape)
    program = from_torch(model, x)
    assert program.batched
    assert [list(value.shape or ()) for value in program.inputs] == [[1, *shape]]
    assert program.output_names == ("output",)
    assert_agrees(program, model, x)


def test_a_model_is_named_after_its_class_or_as_asked() -> None:
    x = torch.randn(1, 3, 8, 8)
    assert from_torch(Cnn(), x).name == "Cnn"
    assert from_torch(Cnn(), x, name="my-net").name == "my_net"


def test_reading_leaves_the_model_in_its_mode() -> None:
    model = Cnn().train()
    model.drop.eval()
    from_torch(model, torch.randn(2, 3, 8, 8))
    assert model.training
    assert model.stem.training
    assert not model.drop.training


def test_nested_conditions_become_branches() -> None:
    torch.manual_seed(0)
    model = Nested().eval()
    x = torch.randn(3, 4)
    x[0] += 3
    x[1] += 0.7
    x[2] -= 3
    program = from_torch(model, x)
    forks = [b for b in program.blocks.values() if isinstance(b.terminator, Branch)]
    assert len(forks) == 2
    assert not any(fork.graph.initializers.get("layers.2.weight") for fork in forks)
    assert_agrees(program, model, x)


def test_a_free_batch_of_an_exported_program_becomes_one() -> None:
    torch.manual_seed(0)
    model, x = Cnn().eval(), torch.randn(4, 3, 8, 8)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    program = from_torch(exported)
    assert list(program.inputs[0].shape or ()) == [1, 3, 8, 8]
    assert_agrees(program, model, x)


def test_a_fixed_batch_of_an_exported_program_becomes_one() -> None:
    torch.manual_seed(0)
    model, x = Cnn().eval(), torch.randn(4, 3, 8, 8)
    program = from_torch(torch.export.export(model, (x,)))
    assert list(program.inputs[0].shape or ()) == [1, 3, 8, 8]
    assert_agrees(program, model, x)


def test_an_fx_graph_module_reads_like_its_module() -> None:
    torch.manual_seed(0)
    model, x = mlp().eval(), torch.randn(3, 6)
    assert_agrees(from_torch(torch.fx.symbolic_trace(model), x), model, x)


def test_the_module_of_an_exported_program_reads_like_its_module() -> None:
    torch.manual_seed(0)
    model, x = mlp().eval(), torch.randn(1, 6)
    assert_agrees(from_torch(torch.export.export(model, (x,)).module(), x), model, x)


class TwoInputs(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return left + right, left * right


def test_several_inputs_and_outputs_keep_their_names() -> None:
    left, right = torch.randn(2, 3), torch.randn(2, 3)
    by_name = from_torch(TwoInputs(), {"left": left, "right": right})
    by_position = from_torch(TwoInputs(), (left, right))
    for program in (by_name, by_position):
        assert [value.name for value in program.inputs] == ["left", "right"]
        assert program.output_names == ("output_0", "output_1")
        np.testing.assert_allclose(answers(program, left, right), left + right, rtol=1e-6)


class Planes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, image: Tensor) -> Tensor:
        return cast("Tensor", self.conv(image.unsqueeze(0)).squeeze(0))


def test_a_model_without_a_batch_axis() -> None:
    program = from_torch(Planes(), torch.randn(3, 6, 6), batched=False)
    assert not program.batched
    assert list(program.inputs[0].shape or ()) == [3, 6, 6]


def test_nothing_leaks_out_of_the_exporter(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    from_torch(mlp(), torch.randn(2, 6))
    captured = capfd.readouterr()
    assert (captured.out, captured.err, list(recwarn)) == ("", "", [])


class Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1


def test_python_decisions_about_data_are_refused_with_a_way_out() -> None:
    with pytest.raises(UserError, match=r"cannot capture Decides.*torch\.cond"):
        from_torch(Decides(), torch.randn(2, 3))


class Eigenvalues(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = torch.linalg.eigvalsh(x @ x.transpose(1, 2))
        return values


def test_an_operator_without_translation_is_named() -> None:
    with pytest.raises(UserError, match="eigh"):
        from_torch(Eigenvalues(), torch.randn(1, 3, 3))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UserError, match="found str"):
        from_torch("model.pt", torch.randn(1, 3))
    with pytest.raises(UserError, match="example_inputs"):
        from_torch(mlp())
    with pytest.raises(UserError, match=r"\['int'\]"):
        from_torch(mlp(), cast("Any", (3,)))
