"""Batch norm across ranks against one process with the whole batch, whoever computes it on each rank."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn import functional as F

from atrous.networks import fused_batch_norm
from atrous.networks.cross_rank_batch_norm import CrossRankBatchNorm2d, Moments
from atrous.networks.normalisation import normalised
from atrous.networks.recomputation import maps_recomputed

from .conftest import drawn_norm

_CHANNELS = 24
_PARTS = (slice(0, 3), slice(3, 4))  # of the images, on two ranks: three times as many pixels on the first
_RESULTS = ("y", "x", "weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class _Case(NamedTuple):
    """The dtype of the map, whether ReLU follows, and which of the ranks have kernels of this package."""

    dtype: torch.dtype
    relu: bool
    kernels: tuple[bool, bool]

    @property
    def name(self) -> str:
        of_ranks = "-".join("ours" if ours else "pytorchs" for ours in self.kernels)
        return f"{str(self.dtype).removeprefix('torch.')}-{'relu' if self.relu else 'alone'}-{of_ranks}"


_CASES = [
    _Case(*case)
    for case in product(
        (torch.float32, torch.bfloat16, torch.float64),
        (False, True),
        ((True, True), (False, False), (True, False)),
    )
]


def _map(seed: int) -> Tensor:
    x_NCHW = torch.randn(4, _CHANNELS, 9, 7, generator=torch.Generator().manual_seed(seed)) * 2 + seed
    return x_NCHW.bfloat16().float().contiguous(memory_format=torch.channels_last)


def _away_from_the_bend(y_NCHW: Tensor) -> Tensor:
    """Where rounding does not decide on which side of ReLU's bend a value lies."""
    return (y_NCHW.abs() > 0.05).to(y_NCHW.dtype)


def _gradient() -> Tensor:
    norm = drawn_norm(_CHANNELS).double()
    exact = F.batch_norm(_map(1).double(), None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
    return _map(2) * _away_from_the_bend(exact).float()


def _results(norm: nn.BatchNorm2d, x_NCHW: Tensor, gradient_NCHW: Tensor, *, relu: bool) -> list[Tensor]:
    x_NCHW = x_NCHW.clone().requires_grad_()
    with maps_recomputed():  # as a training has it
        y_NCHW = normalised(norm, x_NCHW, relu=relu)
        one = torch.ones_like(y_NCHW[:1, :, :1, :1], requires_grad=True)
        product = y_NCHW * one  # saves the map, or how it is made
    sources = x_NCHW, norm.weight, norm.bias, one
    *gradients, by_one = torch.autograd.grad(product, sources, gradient_NCHW.to(y_NCHW.dtype))
    wanted = (y_NCHW.double() * gradient_NCHW).sum((0, 2, 3), keepdim=True)
    assert (by_one - wanted).abs().max() < (0.05 if y_NCHW.dtype == torch.bfloat16 else 1e-4) * wanted.abs().max()
    return [y_NCHW.detach(), *gradients, *(norm.get_buffer(name).clone() for name in _RESULTS[4:])]


def _on_rank(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    found = {}
    for case in _CASES:
        fused_batch_norm.kernels.use(case.kernels[rank])
        norm, part = drawn_norm(_CHANNELS), _PARTS[rank]
        norm.__class__ = CrossRankBatchNorm2d
        norm.to(torch.float64 if case.dtype == torch.float64 else torch.float32)
        x_NCHW = _map(1)[part].to(case.dtype)
        assert fused_batch_norm.suits(norm, x_NCHW) == (case.kernels[rank] and case.dtype != torch.float64)
        found[case.name] = _results(norm, x_NCHW, _gradient()[part], relu=case.relu)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory, compiled_kernels: None) -> list[dict[str, list[Tensor]]]:
    """What each of two ranks found of every case."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    start_processes(_on_rank, (2, str(folder)), nprocs=2, start_method="fork")  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _together(parts: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
    """Maps behind each other, gradients of parameters added as DDP does, statistics, which are equal."""
    first, second = (dict(zip(_RESULTS, part, strict=True)) for part in parts)
    maps = {name: torch.cat([first[name], second[name]]) for name in ("y", "x")}
    assert all(torch.equal(first[name], second[name]) for name in _RESULTS[4:])
    return first | maps | {name: first[name] + second[name] for name in ("weight", "bias")}


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)
def test_two_ranks_have_the_results_of_one_process_with_the_whole_batch(
    case: _Case, of_ranks: list[dict[str, list[Tensor]]]
) -> None:
    found = _together([of_rank[case.name] for of_rank in of_ranks])
    exact = _results(drawn_norm(_CHANNELS).double(), _map(1).double(), _gradient().double(), relu=case.relu)
    for name, wanted in zip(_RESULTS, exact, strict=True):
        is_rounded = case.dtype == torch.bfloat16 and name in ("y", "x")
        tolerance = 2.0**-8 if is_rounded else 1e-5
        torch.testing.assert_close(found[name].double(), wanted.double(), msg=name, atol=tolerance, rtol=tolerance)
    assert found["y"].dtype == found["x"].dtype == case.dtype


def test_a_single_rank_and_an_evaluation_are_pytorchs_batch_norm() -> None:
    norm, own = drawn_norm(_CHANNELS), drawn_norm(_CHANNELS)
    own.__class__ = CrossRankBatchNorm2d
    for _ in range(2):
        assert torch.equal(own(_map(1)), norm(_map(1)))
        norm.eval(), own.eval()
    assert all(torch.equal(value, norm.state_dict()[name]) for name, value in own.state_dict().items())


def test_moments_of_ranks_are_those_of_their_pixels_together(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 1000
    parts = torch.split(pixels, [7, 42, 1])
    ranks = [Moments(len(part), torch.stack([part.mean(0), part.var(0, correction=0) * len(part)])) for part in parts]
    others = [torch.cat([rank.values.new_tensor([rank.pixels]), *rank.values]) for rank in ranks]

    def gather(every: list[Tensor], own: Tensor) -> None:
        assert torch.equal(own, others[1])
        for place, other in zip(every, others, strict=True):
            place.copy_(other)

    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(dist, "all_gather", gather)
    together = ranks[1].of_all_ranks()
    assert int(together.pixels) == 50
    torch.testing.assert_close(together.values[0], pixels.mean(0))
    torch.testing.assert_close(together.values[1] / 49, pixels.var(0))
