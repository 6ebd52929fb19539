"""What residual units end in, batch norm, sum and ReLU in one pass: as near to float64 as PyTorch's, the same bits."""

from __future__ import annotations

import copy
import weakref
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.networks import fused_batch_norm
from atrous.networks.layers import ConvBatchNorm, SeparableConv
from atrous.networks.mobilenet import mobilenetv2
from atrous.networks.recomputation import maps_recomputed
from atrous.networks.residual_sum import summed
from atrous.networks.resnet import ResNet
from atrous.networks.xception import xception41

from .conftest import drawn_norm

pytestmark = pytest.mark.usefixtures("compiled_kernels")

_SHAPES = [(2, 5, 3, 4), (1, 64, 17, 9), (2, 728, 9, 9), (3, 7, 41, 7)]


def _map(shape: tuple[int, ...], *, seed: int) -> Tensor:
    x_NCHW = 0.5 + torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x_NCHW.contiguous(memory_format=torch.channels_last)


def _last(channels: int, *, separable: bool = False) -> ConvBatchNorm | SeparableConv:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"in_channels": channels, "out_channels": channels, "activation": "none"}
    last = SeparableConv(**sizes) if separable else ConvBatchNorm(**sizes, kernel_size=1)
    return last.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _results(norm: nn.BatchNorm2d, maps: tuple[Tensor, Tensor, Tensor], *, relu: bool, fused: bool) -> list[Tensor]:
    """The sum and its gradients by both maps, weight and bias, where the sum's is the third map."""
    x_NCHW, plus_NCHW = (own.clone().requires_grad_() for own in maps[:2])
    if fused:
        assert fused_batch_norm.suits(norm, x_NCHW)
        assert fused_batch_norm.can_add(x_NCHW, plus_NCHW)
        y_NCHW, *_ = fused_batch_norm.batch_norm(norm, x_NCHW, relu=relu, plus_NCHW=plus_NCHW)
    else:
        y_NCHW = F.batch_norm(x_NCHW, None, None, norm.weight, norm.bias, training=True, eps=norm.eps) + plus_NCHW
        y_NCHW = y_NCHW.relu() if relu else y_NCHW
    wanted = (x_NCHW, plus_NCHW, norm.weight, norm.bias)
    return [y_NCHW.detach(), *torch.autograd.grad(y_NCHW, wanted, maps[2])]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", _SHAPES)
def test_it_is_as_near_to_float64_as_pytorch(shape: tuple[int, int, int, int], relu: bool) -> None:
    norm = drawn_norm(shape[1])
    x, plus, gradient = (_map(shape, seed=seed) for seed in (1, 2, 3))
    doubles = (x.double(), plus.double(), gradient.double())
    before, *_ = _results(copy.deepcopy(norm).double(), doubles, relu=False, fused=False)
    gradient = gradient * (before.abs() > 1e-4)  # nearer to ReLU's bend rounding decides
    exact = _results(
        copy.deepcopy(norm).double(), (x.double(), plus.double(), gradient.double()), relu=relu, fused=False
    )
    pytorchs = _results(norm, (x, plus, gradient), relu=relu, fused=False)
    ours = _results(norm, (x, plus, gradient), relu=relu, fused=True)
    assert ours[0].is_contiguous(memory_format=torch.channels_last)
    for own, theirs, value in zip(ours, pytorchs, exact, strict=True):
        error, of_pytorch = ((one.double() - value).abs().max().item() for one in (own, theirs))
        assert error <= 2 * of_pytorch + 1e-6 * (1 + value.abs().max().item())


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(2, 16, 9, 7), (2, 128, 200, 170)])  # the second is written past the cache
def test_a_sum_in_bfloat16_is_rounded_once(shape: tuple[int, int, int, int], relu: bool) -> None:
    maps = tuple(_map(shape, seed=seed).bfloat16() for seed in (1, 2, 3))
    found = _results(drawn_norm(shape[1]), maps, relu=relu, fused=True)  # type: ignore[arg-type]
    wanted = _results(drawn_norm(shape[1]), tuple(own.float() for own in maps), relu=relu, fused=True)  # type: ignore[arg-type]
    assert [own.dtype for own in found[:3]] == [torch.bfloat16] * 3
    for own, exact in zip(found, wanted, strict=True):
        assert torch.equal(own, exact.to(own.dtype))


def test_what_is_not_a_number_in_either_map_reaches_the_loss_and_the_gradients() -> None:
    x, plus = _map((2, 4, 6, 6), seed=1), _map((2, 4, 6, 6), seed=2)
    plus[1, 2, 3, 4] = float("nan")
    y, by_x, by_plus, *_ = _results(drawn_norm(4), (x, plus, torch.ones_like(x)), relu=True, fused=True)
    assert torch.equal(y.isnan(), plus.isnan())
    assert by_plus[1, 2, 3, 4] == 1
    assert by_x.isfinite().all()
    x[0, 1, 0, 0] = float("nan")
    y, by_x, *_ = _results(drawn_norm(4), (x, plus, torch.ones_like(x)), relu=True, fused=True)
    assert y[:, 1].isnan().all()
    assert by_x[:, 1].isnan().all()


def _of_unit(last: ConvBatchNorm | SeparableConv, *, again: bool, relu: bool) -> list[Tensor]:
    """The gradients of a sum that a convolution reads, whose shortcut is read by ReLU as well."""
    x = _map((2, 16, 9, 9), seed=1).requires_grad_()
    conv = nn.Conv2d(16, 8, 3, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    nn.init.constant_(conv.weight, 0.1)
    with maps_recomputed(again):
        y = conv(summed(last, F.relu(x), x * 2, relu=relu))
    return list(torch.autograd.grad(y.square().sum(), [x, conv.weight, *last.parameters()]))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("separable", [False, True])
def test_a_sum_that_is_made_again_gives_the_bits_of_one_that_is_kept(separable: bool, relu: bool) -> None:
    last = _last(16, separable=separable)
    kept, made_again = (_of_unit(last, again=again, relu=relu) for again in (False, True))
    assert all(map(torch.equal, kept, made_again))


@pytest.mark.parametrize("relu", [False, True])
def test_a_sum_that_is_made_again_is_not_kept(relu: bool) -> None:
    last, conv = _last(16), nn.Conv2d(16, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    held = {}
    for again in (False, True):
        with maps_recomputed(again):
            sum_NCHW = summed(last, _map((2, 16, 9, 9), seed=1), _map((2, 16, 9, 9), seed=2), relu=relu)
            y_NCHW, of_map = conv(sum_NCHW), weakref.ref(sum_NCHW.untyped_storage())
            del sum_NCHW
        held[again] = of_map() is not None
        y_NCHW.sum().backward()
    assert held == {False: True, True: False}


def _nodes(y_NCHW: Tensor) -> list[str]:
    """The names of what made a map, each once for each time that it was run."""
    nodes, names, seen = [y_NCHW.grad_fn], [], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.append(node.name())
        nodes += [before for before, _ in node.next_functions]
    return names


@pytest.mark.parametrize(
    ("backbone", "sums"),
    [
        (partial(ResNet, units=(2, 1, 1, 2), width=8), 4),  # the decoder reads one, and one has a strided shortcut
        (partial(ResNet, units=(2, 1, 1, 2), width=8, unit="basic"), 4),
        (partial(xception41, width=0.05), 12),
        (mobilenetv2, 10),
    ],
)
def test_units_of_every_backbone_end_in_the_kernel(backbone: Any, sums: int) -> None:
    model = backbone().to(memory_format=torch.channels_last).train()
    model.read_low_levels(["low_level_4"])
    names = _nodes(model(_map((2, 3, 33, 33), seed=1))["high"])
    assert names.count("_BatchNormAndSumBackward") == sums


def test_a_brick_with_an_activation_is_added_behind_it() -> None:
    last, x, plus = _last(16), _map((2, 16, 9, 9), seed=1), -10 + _map((2, 16, 9, 9), seed=2)
    last.activation = "relu"
    torch.testing.assert_close(summed(last, x, plus), last(x) + plus)


def test_another_module_is_called_and_its_map_added() -> None:
    brick, x, plus = nn.Sequential(_last(16), nn.Tanh()), _map((2, 16, 9, 9), seed=1), _map((2, 16, 9, 9), seed=2)
    torch.testing.assert_close(summed(brick, x, plus), brick(x) + plus)


def test_while_compiling_a_hook_reads_the_branch_too() -> None:
    last, x, plus = _last(16).eval(), _map((2, 16, 9, 9), seed=1), _map((2, 16, 9, 9), seed=2)
    last.register_forward_hook(lambda _module, _inputs, y: y * 2)
    compiled = torch.compile(summed, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(last, x, plus, relu=True), F.relu(last(x) + plus))


def test_a_sum_with_a_wider_map_has_its_dtype_also_where_it_is_made_again() -> None:
    gradients = []
    for again in (False, True):
        x, plus = _map((2, 16, 9, 9), seed=1).requires_grad_(), _map((2, 16, 9, 9), seed=2).double().requires_grad_()
        with maps_recomputed(again):
            y = summed(_last(16), x, plus, relu=True)
            assert y.dtype == torch.float64
            gradients.append(torch.autograd.grad(y.square().sum(), (x, plus)))
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("hooked", ["", "norm"])
def test_a_hook_reads_the_branch_in_front_of_the_sum(hooked: str) -> None:
    last, x, plus = _last(16), _map((2, 16, 9, 9), seed=1), _map((2, 16, 9, 9), seed=2)
    expected, read = summed(last, x, plus, relu=True), []
    last.get_submodule(hooked).register_forward_hook(lambda _module, _inputs, y: read.append((y, y.detach().clone())))
    torch.testing.assert_close(summed(last, x, plus, relu=True), expected)
    ((y_NCHW, before_NCHW),) = read
    assert torch.equal(y_NCHW, before_NCHW)
    torch.testing.assert_close(F.relu(y_NCHW + plus), expected)


@pytest.mark.parametrize(
    "plus",
    [
        _map((2, 16, 9, 9), seed=2).contiguous(),
        _map((2, 16, 18, 18), seed=2)[..., ::2, ::2],
        _map((2, 16, 9, 9), seed=2).double(),
        _map((1, 16, 1, 1), seed=2),
        nn.Parameter(_map((2, 16, 9, 9), seed=2)),
    ],
)
def test_another_map_is_added_by_pytorch(plus: Tensor) -> None:
    last, x = _last(16), _map((2, 16, 9, 9), seed=1)
    assert not fused_batch_norm.can_add(last.conv(x), plus)  # type: ignore[operator]
    branch = copy.deepcopy(last)(x)
    torch.testing.assert_close(summed(last, x, plus).double(), (branch + plus).double(), rtol=1e-5, atol=1e-5)
