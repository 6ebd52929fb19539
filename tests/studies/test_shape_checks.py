"""Values of the wrong shape are problems in words, whatever they are."""

from typing import Any

import pytest

from atrous.studies.shape_checks import shape_problems

CALL = {"_target_": "atrous.DeepLabV3"}


def _problems(settings: Any, **model: Any) -> list[str]:
    config = {
        "model": {**CALL, **model},
        "backbone": {**CALL, "settings": settings},
        "data": {"train": CALL, "val": CALL},
        "recipe": {"augmentation": {"transforms": []}},
    }
    return list(shape_problems(config))


@pytest.mark.parametrize("value", [0, None, True, 1.5, "abcd", {}, [1], ["abcd"], [[1, 2]], [[1, 8, "2", 1]]])
def test_rows_of_anything_else_are_told(value: Any) -> None:  # 0 was found by test_random_configs.py: a TypeError
    (problem,) = _problems(value)
    assert problem.startswith(f"backbone.settings={value!r}: a list of [expansion, channels, repeats, stride]")


def test_rows_of_whole_numbers_are_let_through() -> None:
    assert _problems([[1, 8, 2, 1], [6, 16, 1, 2]]) == []


@pytest.mark.parametrize("grid", [[[1]], [[1], [1], [1]], [1, True, 1], [{}]])
def test_rates_that_are_no_whole_numbers_are_told(grid: Any) -> None:  # [[1]], which OmegaConf lets in: a TypeError
    assert _problems([[1, 8, 2, 1]], multi_grid=grid) == [
        f"model.multi_grid={grid!r}: a list of whole numbers, e.g. [1,2,4]"
    ]
    assert _problems([[1, 8, 2, 1]], multi_grid=[1, 2, 4]) == []
