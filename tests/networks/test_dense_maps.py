"""DeepLabv3, section 3.1: at a smaller output stride the same weights give the same map, only denser."""

from functools import partial
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from atrous.networks import MobileNetV2, ResNet, Xception
from atrous.networks.backbone import Backbone
from atrous.networks.output_stride import allowed_output_strides, plan_units

NETWORKS = settings(max_examples=settings().max_examples // 5)


def brute_force(x: Tensor, kernels: list[Tensor], strides: list[int], rates: list[int], output_stride: int) -> Tensor:
    """A stem of stride 4 that only drops pixels, then units of two 3x3 convolutions, of which the first strides."""
    x = x[:, :, ::4, ::4]
    plans = plan_units(strides, output_stride, unit_rates=rates)
    for plan, kernel in zip(plans, kernels, strict=True):
        x = F.conv2d(x, kernel, stride=plan.stride, padding=plan.rate, dilation=plan.rate).relu()
        x = F.conv2d(x, kernel, padding=plan.rate_after, dilation=plan.rate_after)
    return x


@given(
    strides=st.lists(st.sampled_from([1, 2]), min_size=1, max_size=7).filter(lambda strides: strides.count(2) <= 4),
    cells=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    exponent=st.integers(2, 6),
    data=st.data(),
)
def test_any_chain_of_units_gives_the_strided_map_and_what_lies_between(
    strides: list[int], cells: tuple[int, int], exponent: int, data: st.DataObject
) -> None:
    allowed = allowed_output_strides(strides)
    native, dense = allowed[-1], allowed[min(exponent - 2, len(allowed) - 1)]
    rates = data.draw(st.lists(st.integers(1, 3), min_size=len(strides), max_size=len(strides)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    kernels = [torch.randn(2, 2, 3, 3, generator=generator, dtype=torch.float64) / 3 for _ in strides]
    height, width = (native * count + 1 for count in cells)
    x = torch.randn(1, 2, height, width, generator=generator, dtype=torch.float64)
    strided, densest = (brute_force(x, kernels, strides, rates, stride) for stride in (native, dense))
    assert strided.shape[-2:] == tuple(count + 1 for count in cells)
    step = native // dense
    torch.testing.assert_close(densest[:, :, ::step, ::step], strided, rtol=1e-9, atol=1e-9)


def resnets() -> st.SearchStrategy[Any]:
    """ResNets of one or two units a block, in both layouts, with multi-grid and added blocks."""

    def make(units: list[int], grid: list[int], **options: Any) -> Any:
        return partial(ResNet, units=units, multi_grid=grid[: units[3]], width=2, **options)

    counts = st.lists(st.integers(1, 2), min_size=4, max_size=4)
    return st.builds(
        make,
        counts,
        st.lists(st.integers(1, 3), min_size=2, max_size=2),
        unit=st.sampled_from(["basic", "bottleneck"]),
        stem=st.sampled_from(["beta", "7x7"]),
        strides_in=st.sampled_from(["last_unit", "first_unit"]),
        blocks=st.integers(4, 5),
    )


def others() -> st.SearchStrategy[Any]:
    """Small networks of the two other families."""
    mobilenets = st.builds(
        lambda rows: partial(MobileNetV2, settings=[(1, 8, 1, 2), *rows], width=1.0, multi_grid=None, blocks=4),
        st.lists(st.tuples(st.just(2), st.just(8), st.integers(1, 2), st.sampled_from([1, 2])), min_size=2, max_size=4),
    )
    xceptions = st.builds(
        lambda entry, middle: partial(
            Xception, entry=entry, middle_units=middle, width=1 / 32, multi_grid=(1, 2, 1), blocks=4
        ),
        st.sampled_from([[(128, 2), (256, 2), (728, 2)], [(128, 2), (256, 1), (256, 2), (728, 1), (728, 2)]]),
        st.integers(0, 2),
    )
    return mobilenets | xceptions


@NETWORKS
@given(make=resnets() | others(), seed=st.integers(0, 99), data=st.data())
def test_real_backbones_give_the_same_map_at_every_output_stride(make: Any, seed: int, data: st.DataObject) -> None:
    torch.manual_seed(seed)
    strides = make(output_stride=4).strides
    allowed = allowed_output_strides(strides.units, stem_stride=strides.stem)
    network: Backbone = make(output_stride=allowed[-1]).double().eval()
    x = torch.randn(1, 3, allowed[-1] + 1, allowed[-1] + 1, dtype=torch.float64)
    with torch.no_grad():
        strided = network(x)["high"]
        dense = data.draw(st.sampled_from(allowed))
        network.set_output_stride(dense)
        densest = network(x)["high"]
    step = allowed[-1] // dense
    scale = float(strided.abs().max()) or 1.0
    torch.testing.assert_close(densest[:, :, ::step, ::step] / scale, strided / scale, rtol=1e-7, atol=1e-9)
