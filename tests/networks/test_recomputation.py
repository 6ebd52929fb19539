"""Maps that are computed again: gradients stay those of plain autograd, and each map is made once more at most."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from atrous.networks.recomputation import convolved, is_plain, maps_recomputed, recomputed


def _counted(times: list[int]) -> Callable[[Tensor], Tensor]:
    def double(x: Tensor) -> Tensor:
        times[0] += 1
        return 2 * x

    return double


def test_a_map_with_several_readers_is_made_again_once() -> None:
    times = [0]
    double = _counted(times)
    x = torch.randn(3, requires_grad=True)
    with maps_recomputed():
        doubled = recomputed(double, x)
        y = doubled.square() + doubled.sin() + recomputed(torch.add, doubled, x).cos()
    times[0] = 0
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert times == [1]
    expected = 2 * (4 * x + (2 * x).cos()) - 3 * (3 * x).sin()
    torch.testing.assert_close(gradient, expected)


def test_the_backward_pass_can_be_taken_twice() -> None:
    x = torch.randn(3, requires_grad=True)
    with maps_recomputed():
        y = recomputed(lambda x: 2 * x, x).square().sum()
    (first,) = torch.autograd.grad(y, x, retain_graph=True)
    (second,) = torch.autograd.grad(y, x)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, 8 * x)


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    x = torch.randn(3, requires_grad=True)
    with maps_recomputed():
        y = recomputed(lambda x: 2 * x, x).square().sum()
    with pytest.raises(RuntimeError, match=r"activation_checkpointing=none"):
        torch.autograd.grad(y, x, create_graph=True)


def test_an_input_that_is_changed_in_place_is_made_again_only_where_its_own_source_is_known() -> None:
    x = torch.randn(3, requires_grad=True)

    def add_(a: Tensor, b: Tensor) -> Tensor:
        return a.add_(b)

    with maps_recomputed():
        known = recomputed(add_, recomputed(lambda x: 2 * x, x), x, again=torch.add).square()
        unknown = recomputed(add_, 2 * x, x, again=torch.add).square()
    for y in (known, unknown):
        torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], 18 * x)


def test_a_map_that_is_changed_later_is_kept_as_it_then_is() -> None:
    x = torch.randn(3, requires_grad=True)
    with maps_recomputed():
        doubled = recomputed(lambda x: 2 * x, x)
        y = doubled.mul_(3).square()
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], 72 * x)


def test_a_map_at_the_place_of_one_that_is_gone_is_not_taken_for_it() -> None:
    with maps_recomputed():
        for value in range(20):
            x = torch.full((1 << 16,), float(value), requires_grad=True)
            gone = recomputed(lambda x: x + 1000, x)
            place = gone.data_ptr()
            del gone
            fresh = x * 1
            y = fresh.square().sum()
            assert torch.equal(torch.autograd.grad(y, x)[0], 2 * x)
            if fresh.data_ptr() == place:
                return
    pytest.skip("the allocator never used a place again")


def test_a_graph_that_is_dropped_without_a_backward_pass_frees_its_maps() -> None:
    x = torch.randn(9, requires_grad=True)
    with maps_recomputed():
        exponential = (2 * x).exp()  # which autograd saves as its result
        y = recomputed(torch.sin, exponential).square()
    kept = StorageWeakRef(exponential.untyped_storage())  # type: ignore[no-untyped-call]
    del exponential
    assert not kept.expired()  # type: ignore[no-untyped-call]
    del y
    assert kept.expired()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("again", [False, True])
def test_a_kept_map_that_is_changed_before_the_backward_pass_has_pytorchs_error(again: bool) -> None:
    x = torch.randn(3, requires_grad=True)
    with maps_recomputed():
        kept = 2 * x
        y = (recomputed(lambda map_: map_ + 1, kept) if again else kept).square()
    with torch.no_grad():
        kept.mul_(3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(y.sum(), x)


def test_threads_keep_their_maps_apart() -> None:
    def gradient(seed: int) -> bool:
        x = torch.randn(1000, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        with maps_recomputed(seed % 2 == 0):
            y = recomputed(lambda x: 2 * x, x).square().sum()
        return torch.equal(torch.autograd.grad(y, x)[0], 8 * x)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(gradient, range(64)))


def test_without_it_every_map_is_kept() -> None:
    times = [0]
    x = torch.randn(3, requires_grad=True)
    with maps_recomputed(), maps_recomputed(False):
        y = recomputed(_counted(times), x).square().sum()
    torch.autograd.grad(y, x)
    assert times == [1]


def test_a_convolution_with_a_hook_or_of_another_class_is_computed_once() -> None:
    class Other(nn.Conv2d):
        pass

    x, calls = torch.randn(1, 4, 5, 5, requires_grad=True), [0]
    hooked, other = nn.Conv2d(4, 4, 3, groups=4), Other(4, 4, 3, groups=4)
    assert is_plain(hooked)
    assert not is_plain(other)
    hooked.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    with maps_recomputed(depthwise=True):
        y = convolved(hooked, x).square()
    torch.autograd.grad(y.sum(), x)
    assert calls == [1]


def test_a_hook_of_all_modules_is_seen() -> None:
    conv = nn.Conv2d(4, 4, 3)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert not is_plain(conv)
    finally:
        handle.remove()
    assert is_plain(conv)
