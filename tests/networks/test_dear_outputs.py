"""A part that is computed twice takes the outputs of dear convolutions from its first pass, in their order."""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from atrous.networks import atrous_convolution, dear_outputs
from atrous.networks.activation_checkpointing import Checkpointed
from atrous.networks.dear_outputs import DearOutputs, computed_once
from atrous.networks.layers import HeConv2d

DEAR, CHEAP = torch.zeros(4, 256, 3, 3), torch.zeros(4, 256, 1, 1)  # sums of 2304 and of 256 products


class Counted:
    """Computes 0, 1, 2, ..."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Tensor:
        self.calls += 1
        return torch.tensor(self.calls - 1.0)


def test_dear_outputs_come_from_the_first_pass_and_cheap_ones_are_computed_again() -> None:
    outputs, compute = DearOutputs(), Counted()
    with outputs.kept():
        first = [computed_once(weight, compute) for weight in (DEAR, CHEAP, DEAR)]
    for again in (3, 4):  # a backward pass that is made twice makes the second pass twice
        with outputs.used():
            second = [computed_once(weight, compute) for weight in (DEAR, CHEAP, DEAR)]
        assert [int(value) for value in first] == [0, 1, 2]
        assert [int(value) for value in second] == [0, again, 2]


def test_outside_of_a_part_everything_is_computed() -> None:
    compute = Counted()
    with DearOutputs().kept():
        pass
    assert [int(computed_once(DEAR, compute)) for _ in range(3)] == [0, 1, 2]


def test_a_part_within_a_part_has_outputs_of_its_own() -> None:
    outer, inner, compute = DearOutputs(), DearOutputs(), Counted()
    with outer.kept():
        computed_once(DEAR, compute)
        with inner.kept():
            computed_once(DEAR, compute)
        computed_once(DEAR, compute)
    with outer.used():
        assert int(computed_once(DEAR, compute)) == 0
        with inner.used():
            assert int(computed_once(DEAR, compute)) == 1
        assert int(computed_once(DEAR, compute)) == 2


class Part(Checkpointed):
    def __init__(self) -> None:
        super().__init__()
        self.recomputes = True
        self.convolutions = nn.Sequential(
            HeConv2d(8, 256, 3, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            HeConv2d(256, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.part(self.convolutions, x_NCHW)


@pytest.fixture
def convolved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The channels in of the convolutions that were computed."""
    seen: list[int] = []
    plain = atrous_convolution._convolve

    def counted(x_NCHW: Tensor, weight_OIkk: Tensor, geometry: dict[str, int]) -> Tensor:
        seen.append(x_NCHW.shape[1])
        return plain(x_NCHW, weight_OIkk, geometry)

    monkeypatch.setattr(atrous_convolution, "_convolve", counted)
    monkeypatch.setattr(atrous_convolution, "_is_slow_in_onednn", lambda conv, x_NCHW: True)
    return seen


def _gradients(part: Part, x_NCHW: Tensor, backward: Callable[[Tensor], None]) -> list[Tensor]:
    part.zero_grad()
    backward(part(x_NCHW).square().sum())
    return [parameter.grad.clone() for parameter in part.parameters() if parameter.grad is not None]


def test_a_network_computes_its_dear_convolution_once_with_the_gradients_of_plain_checkpointing(
    convolved: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part().train()
    x_NCHW = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(0))
    gradients = _gradients(part, x_NCHW, lambda loss: loss.backward())  # type: ignore[no-untyped-call]
    assert convolved == [8, 256, 8]
    monkeypatch.setattr(dear_outputs, "_PRODUCTS", 1 << 30)
    convolved.clear()
    plain = _gradients(part, x_NCHW, lambda loss: loss.backward())  # type: ignore[no-untyped-call]
    assert convolved == [8, 256, 8, 256]
    assert len(gradients) == len(plain) == 6
    assert all(torch.equal(*pair) for pair in zip(gradients, plain, strict=True))


def test_a_graph_that_is_kept_gives_its_gradients_twice(convolved: list[int]) -> None:
    def twice(loss: Tensor) -> None:
        loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        loss.backward()  # type: ignore[no-untyped-call]

    part = Part().train()
    x_NCHW = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(0))
    once = _gradients(part, x_NCHW, lambda loss: loss.backward())  # type: ignore[no-untyped-call]
    doubled = _gradients(part, x_NCHW, twice)
    assert all(torch.equal(2 * one, two) for one, two in zip(once, doubled, strict=True))


def test_what_was_kept_goes_with_the_graph() -> None:
    kept: list[weakref.ref[DearOutputs]] = []

    def passes() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        outputs = DearOutputs()
        kept.append(weakref.ref(outputs))
        return outputs.kept(), outputs.used()

    x = torch.ones(3, requires_grad=True)
    y = checkpoint(torch.exp, x, use_reentrant=False, context_fn=passes)
    assert kept[0]() is not None
    y.sum().backward()
    assert kept[0]() is None
