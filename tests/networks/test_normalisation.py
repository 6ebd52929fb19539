"""Batch norm with ReLU whose map is made again: gradients stay those of plain autograd, a batch counts once."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from atrous.compiling import cpp_compiler
from atrous.networks import depthwise_gradients, fused_batch_norm
from atrous.networks.layers import ConvBatchNorm
from atrous.networks.normalisation import normalised
from atrous.networks.recomputation import maps_recomputed
from atrous.training.batch_norm import freeze


def _gradients(network: Callable[[Tensor], Tensor], weights: list[Tensor], *, again: bool) -> list[Tensor]:
    x = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with maps_recomputed(again):
        y = network(x)
    return list(torch.autograd.grad(y.square().sum(), [x, *weights]))


@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norm_with_relu_has_the_gradients_of_autograd_and_counts_a_batch_once(frozen: bool) -> None:
    torch.manual_seed(0)
    norm, conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
    norm.running_mean = torch.randn(4)
    if frozen:
        freeze(norm)
    weights = [conv.weight] if frozen else [conv.weight, norm.weight, norm.bias]

    def network(x: Tensor) -> Tensor:
        y: Tensor = conv(normalised(norm, conv(F.pad(x, (1, 1, 1, 1))), relu=True))
        return y

    kept = _gradients(network, weights, again=False)
    counted, mean = int(norm.num_batches_tracked or 0), norm.running_mean.clone()
    made_again = _gradients(network, weights, again=True)
    assert all(map(torch.equal, kept, made_again))
    assert int(norm.num_batches_tracked or 0) == (0 if frozen else counted + 1)
    assert torch.equal(mean, norm.running_mean) is frozen


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_pytorchs_batch_norm_across_ranks_is_made_again_with_their_statistics(frozen: bool, affine: bool) -> None:
    torch.manual_seed(0)
    norms: list[Any] = [nn.SyncBatchNorm(4, momentum=0.3, eps=1e-3, affine=affine) for _ in range(2)]
    conv, found = nn.Conv2d(4, 4, 3), []
    for norm, again in zip(norms, (False, True), strict=True):
        norm.running_mean = torch.tensor([1.0, -1.0, 0.5, 0.0])
        if frozen:
            freeze(norm)
        found.append(_gradients(lambda x: conv(normalised(norm, x, relu=True)), [conv.weight], again=again))  # noqa: B023
    for kept, made_again in zip(*found, strict=True):
        torch.testing.assert_close(made_again, kept)
    assert norms[1].momentum == 0.3
    for name, value in norms[0].state_dict().items():
        torch.testing.assert_close(norms[1].state_dict()[name], value)


@pytest.mark.parametrize(
    ("options", "is_made_again"), [({}, True), ({"momentum": None}, False), ({"track_running_stats": False}, False)]
)
def test_without_running_statistics_to_read_those_of_all_ranks_from_the_map_is_kept(
    options: dict[str, Any], is_made_again: bool
) -> None:
    norm: Any = nn.SyncBatchNorm(4, **options)
    x = torch.randn(2, 4, 9, 9, requires_grad=True)
    with maps_recomputed():
        y = normalised(norm, x, relu=False)
        square: Any = y * y
    with torch.no_grad():
        saved = square.grad_fn._saved_self
    assert (saved.data_ptr() != y.data_ptr()) is is_made_again
    torch.testing.assert_close(saved, y.detach())


@pytest.mark.parametrize("frozen", [False, True])
def test_what_a_functional_call_puts_in_is_what_a_map_is_made_again_with(frozen: bool) -> None:
    torch.manual_seed(0)
    brick = ConvBatchNorm(in_channels=4, out_channels=4, kernel_size=3).train(not frozen)
    put_in = [torch.rand(4, requires_grad=True) for _ in range(2)]
    names = ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")

    def network(x: Tensor) -> Tensor:
        values = dict(zip(names, (*put_in, torch.rand(4), torch.rand(4)), strict=True))
        y: Tensor = brick.conv(torch.func.functional_call(brick, values, (x,)))
        return y

    found = []
    for again in (False, True):
        torch.manual_seed(1)
        found.append(_gradients(network, [brick.conv.weight, *put_in], again=again))
    assert all(map(torch.equal, *found))


def test_without_running_statistics_an_evaluation_reads_those_of_its_batch_again() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False).eval()
    kept, made_again = (
        _gradients(lambda x: conv(normalised(norm, conv(x), relu=True)), [conv.weight, norm.weight], again=again)
        for again in (False, True)
    )
    assert all(map(torch.equal, kept, made_again))


def test_a_hook_that_replaces_the_map_is_run_once_and_heeded() -> None:
    torch.manual_seed(0)
    norm, conv, calls = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), [0]

    def half(module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        calls[0] += 1
        return y / 2

    norm.register_forward_hook(half)
    kept, made_again = (
        _gradients(lambda x: conv(normalised(norm, conv(x), relu=True)), [conv.weight, norm.weight], again=again)
        for again in (False, True)
    )
    assert all(map(torch.equal, kept, made_again))
    assert calls == [2]


def test_a_hook_keeps_the_map_in_front_of_relu() -> None:
    seen: list[Tensor] = []
    norm = nn.BatchNorm2d(4)
    norm.register_forward_hook(lambda module, inputs, y: seen.append(y))
    normalised(norm, torch.randn(2, 4, 9, 9, requires_grad=True), relu=True)
    assert seen[0].min() < 0


def _keep_output(layer: ConvBatchNorm, seen: list[Tensor]) -> None:
    layer.conv.register_forward_hook(lambda module, inputs, y: seen.append(y))


def _replace_output(layer: ConvBatchNorm, seen: list[Tensor]) -> None:
    layer.conv.register_forward_hook(lambda module, inputs, y: y * torch.linspace(0.1, 3, 16)[:, None, None])


def _replace_map(layer: ConvBatchNorm, seen: list[Tensor]) -> None:
    layer.norm.register_forward_pre_hook(lambda module, inputs: inputs[0] * 2 + inputs[0].square())


def _prune(layer: ConvBatchNorm, seen: list[Tensor]) -> None:
    prune.l1_unstructured(layer.conv, "weight", 0.5)  # type: ignore[no-untyped-call]


def _adapt(layer: ConvBatchNorm, seen: list[Tensor]) -> None:
    class Adapted(nn.Conv2d):
        def forward(self, x_NCHW: Tensor) -> Tensor:
            y_NCHW: Tensor = self._conv_forward(x_NCHW, self.weight * 2, None)
            return y_NCHW

    layer.conv.__class__ = Adapted  # type: ignore[assignment]


def _gradients_of_steps(change: Callable[[ConvBatchNorm, list[Tensor]], None], *, depthwise: bool) -> list[Tensor]:
    """Of three steps with a loss on what a hook has seen, too."""
    torch.manual_seed(0)
    layer = ConvBatchNorm(in_channels=16, out_channels=16, kernel_size=3, groups=16, activation="none")
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found: list[Tensor] = []
    seen: list[Tensor] = []
    change(layer, seen)
    for _ in range(3):
        x = torch.randn(2, 16, 9, 9).to(memory_format=torch.channels_last).requires_grad_()
        with maps_recomputed(depthwise, depthwise=True):
            y = layer(x)
        loss = (y.square() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum()
        loss = loss + sum(own.pow(3).sum() for own in seen)
        found += torch.autograd.grad(loss, [x, *layer.parameters()])
        seen.clear()
    return found


@pytest.mark.skipif(cpp_compiler() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("change", [_keep_output, _replace_output, _replace_map, _prune, _adapt])
def test_with_hooks_or_a_weight_of_its_own_gradients_are_those_without_kernels(
    change: Callable[[ConvBatchNorm, list[Tensor]], None], depthwise: bool
) -> None:
    pytorchs = _gradients_of_steps(change, depthwise=False)
    kernels = depthwise_gradients.kernels, fused_batch_norm.kernels
    try:
        assert all(own.use() for own in kernels)
        ours = _gradients_of_steps(change, depthwise=depthwise)
    finally:
        for own in kernels:
            own.use(False)
    for found, expected in zip(ours, pytorchs, strict=True):
        assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_no_batch_norm_is_made_again_with_an_epsilon_of_0_which_torch_2_11_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true, epsilons = F.batch_norm, []

    def noted(*arguments: Any, **options: Any) -> Tensor:
        epsilons.append(options.get("eps", arguments[-1]))
        return true(*arguments, **options)

    monkeypatch.setattr(F, "batch_norm", noted)
    norm, conv = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
    _gradients(lambda x: conv(normalised(norm, conv(x), relu=True)), [conv.weight], again=True)
    assert len(epsilons) == 2
    assert min(epsilons) > 0
