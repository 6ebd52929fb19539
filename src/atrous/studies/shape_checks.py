"""The shape of what a schema leaves open: constructor calls and rows of numbers, which every other check counts on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_ROWS = (  # the group, the key, and what a row of it holds
    ("backbone", "entry", ("channels", "stride")),
    ("backbone", "settings", ("expansion", "channels", "repeats", "stride")),
    ("model", "decoder_convolutions", ("kernel", "channels")),
    ("model", "head_convolutions", ("kernel", "channels")),
)
LARGEST = 1 << 16  # of any of these numbers: more is a slip of the keyboard, and would take all memory
_MOST_UNITS = 1000


def shape_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """What has not even the shape of a network, a data set or a transform, a line each."""
    for group in ("model", "backbone"):
        yield from _call(config[group], group)
    for split in ("train", "val"):
        yield from _call(config["data"][split], f"data.{split}")
    for index, transform in enumerate(config["recipe"]["augmentation"]["transforms"]):
        yield from _call(transform, f"recipe.augmentation.transforms[{index}]")
    for group, key, names in _ROWS:
        if isinstance(config[group], Mapping) and key in config[group]:
            yield from _rows(config[group][key], f"{group}.{key}", names)
    grid = config["model"].get("multi_grid") if isinstance(config["model"], Mapping) else None
    if isinstance(grid, Sequence) and not all(type(rate) is int for rate in grid):
        yield f"model.multi_grid={grid!r}: a list of whole numbers, e.g. [1,2,4]"
    if isinstance(config["backbone"], Mapping):
        yield from _counts(config["backbone"])


def _call(node: Any, where: str) -> Iterator[str]:
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        yield f"{where}={node!r} is not a constructor call: it has no _target_"


def _rows(value: Any, where: str, names: Sequence[str]) -> Iterator[str]:
    rows = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    for row in rows:
        is_row = isinstance(row, Sequence) and not isinstance(row, str) and len(row) == len(names)
        if not is_row or not all(type(number) is int and 1 <= number <= LARGEST for number in row):
            yield f"{where}={value!r}: a list of [{', '.join(names)}], each a whole number from 1 to {LARGEST}"
            return


def _counts(backbone: Mapping[str, Any]) -> Iterator[str]:
    """Units are walked through one by one, so there must be a number of them that can be."""
    middle, units = backbone.get("middle_units", 0), backbone.get("units", [1])
    if type(middle) is not int or not 0 <= middle <= _MOST_UNITS:
        yield f"backbone.middle_units={middle!r}: a whole number from 0 to {_MOST_UNITS}"
    known = isinstance(units, Sequence) and all(type(count) is int and count <= _MOST_UNITS for count in units)
    if not known or isinstance(units, str):
        yield f"backbone.units={units!r}: a list of whole numbers up to {_MOST_UNITS}"
    settings = backbone.get("settings")
    rows = settings if isinstance(settings, Sequence) else ()  # `_rows` has told of anything else
    repeats = [row[2] for row in rows if isinstance(row, Sequence) and len(row) == 4]
    if any(type(number) is int and number > _MOST_UNITS for number in repeats):
        yield f"backbone.settings={settings!r}: at most {_MOST_UNITS} repeats of a unit"
