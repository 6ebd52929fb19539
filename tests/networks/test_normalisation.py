"""Batch norm with ReLU whose map is made again: gradients stay those of plain autograd, a batch counts once."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
