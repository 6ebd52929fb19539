"""Strides and rates against the papers' examples and against the closed form of the rule."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrous.errors import ConfigError
from atrous.networks.output_stride import (
    StridesIn,
    UnitPlan,
    allowed_output_strides,
    aspp_rates_at,
    plan_units,
    resnet_unit_strides,
)

RESNET50 = (3, 4, 6, 3)


def plan_blocks(
    units: tuple[int, ...], output_stride: int, *, strides_in: StridesIn, multi_grid: tuple[int, ...] = (1, 1, 1)
) -> list[list[UnitPlan]]:
    strides = tuple(chain.from_iterable(resnet_unit_strides(units, strides_in=strides_in)))
    grids = tuple(chain.from_iterable(multi_grid if block >= 3 else (1,) * n for block, n in enumerate(units)))
    flat = iter(plan_units(strides, output_stride, unit_rates=grids))
    return [[next(flat) for _ in range(count)] for count in units]


def rates(block: list[UnitPlan]) -> list[int]:
    return [plan.rate for plan in block]


@pytest.mark.parametrize(("output_stride", "block3", "block4"), [(32, 1, 1), (16, 1, 2), (8, 2, 4), (4, 4, 8)])
def test_the_official_layout_has_one_rate_per_block(output_stride: int, block3: int, block4: int) -> None:
    blocks = plan_blocks(RESNET50, output_stride, strides_in="last_unit")
    assert rates(blocks[2]) == [block3] * 6
    assert rates(blocks[3]) == [block4] * 3


def test_torchvisions_layout_leaves_the_old_rate_to_the_unit_that_would_have_strided() -> None:
    # torchvision's replace_stride_with_dilation=[False, True, True]
    blocks = plan_blocks(RESNET50, 8, strides_in="first_unit")
    assert rates(blocks[2]) == [1, 2, 2, 2, 2, 2]
    assert rates(blocks[3]) == [2, 4, 4]


def test_multi_grid_multiplies_the_rates_of_block4() -> None:
    blocks = plan_blocks(RESNET50, 16, strides_in="last_unit", multi_grid=(1, 2, 4))
    assert rates(blocks[3]) == [2, 4, 8]  # the paper's example, section 4.2


def test_the_cascade_doubles_its_rate_from_block_to_block() -> None:
    blocks = plan_blocks((*RESNET50, 3, 3, 3), 16, strides_in="last_unit")
    assert [rates(block)[0] for block in blocks[3:]] == [2, 4, 8, 16]  # DeepLabv3, Figure 3 (b)


def test_multi_grid_applies_to_every_added_block() -> None:
    blocks = plan_blocks((*RESNET50, 3, 3, 3), 16, strides_in="last_unit", multi_grid=(1, 2, 1))
    for block in blocks[3:]:
        base = block[0].rate
        assert rates(block) == [base, 2 * base, base]


@pytest.mark.parametrize("strides_in", ["last_unit", "first_unit"])
def test_block7_at_output_stride_256_has_no_atrous_convolution(strides_in: StridesIn) -> None:
    blocks = plan_blocks((*RESNET50, 3, 3, 3), 256, strides_in=strides_in)
    assert {plan.rate for plan in chain.from_iterable(blocks)} == {1}


@given(
    strides=st.lists(st.sampled_from([1, 1, 2]), min_size=1, max_size=20),
    exponent=st.integers(min_value=2, max_value=8),
)
def test_stride_times_rate_is_always_the_stride_that_the_unit_was_made_for(strides: list[int], exponent: int) -> None:
    output_stride = 2**exponent
    if output_stride not in allowed_output_strides(strides):
        with pytest.raises(ConfigError):
            plan_units(strides, output_stride)
        return
    plans = plan_units(strides, output_stride)
    assert 4 * prod(plan.stride for plan in plans) == output_stride
    for index, plan in enumerate(plans):
        before = 4 * prod(earlier.stride for earlier in plans[:index])
        assert before * plan.rate == 4 * prod(strides[:index])
        assert before * plan.stride * plan.rate_after == 4 * prod(strides[: index + 1])


@pytest.mark.parametrize("wrong", [0, 2, 3, 12, 64, 512, -16])
def test_an_impossible_output_stride_names_the_possible_ones(wrong: int) -> None:
    with pytest.raises(ConfigError, match=rf"output_stride={wrong} is impossible .* 4, 8, 16, 32$"):
        plan_blocks(RESNET50, wrong, strides_in="last_unit")


def test_units_that_reach_no_output_stride_at_all_are_told() -> None:
    with pytest.raises(ConfigError, match=r"output_stride=4 is impossible .*its units do not reach 4$"):
        plan_units([1, 1], 4, stem_stride=2)


def test_an_unknown_layout_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"strides_in='middle' .* last_unit .* first_unit"):
        resnet_unit_strides(RESNET50, strides_in="middle")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("output_stride", "expected"),
    [
        (16, (6, 12, 18)),
        (8, (12, 24, 36)),
        (32, (3, 6, 9)),
        (4, (24, 48, 72)),
        (64, (2, 3, 5)),
        (256, (1, 1, 1)),
    ],
)
def test_aspp_rates_follow_the_output_stride(output_stride: int, expected: tuple[int, ...]) -> None:
    assert aspp_rates_at((6, 12, 18), output_stride) == expected


def test_an_impossible_aspp_rate_is_named() -> None:
    with pytest.raises(ConfigError, match=r"aspp_rates=\(6, 0\).*at least 1"):
        aspp_rates_at((6, 0), 16)


def test_the_file_needs_no_torch() -> None:
    code = "import sys, atrous, atrous.networks.output_stride; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
