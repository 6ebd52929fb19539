"""What can be run but is hardly meant."""

from collections.abc import Iterator, Mapping
from typing import Any

from atrous.studies.recipe_checks import recipe_warnings


def run_warnings(config: Mapping[str, Any]) -> Iterator[str]:
    """What a run is told before it begins, a line each: the key, its value and what would be right."""
    yield from _unread(config)
    yield from recipe_warnings(config)


def _unread(config: Mapping[str, Any]) -> Iterator[str]:
    """A folder or a class list that no data set takes: whoever forgets `data=` trains on another one.

    The rows of a table may be given a folder at any scale.
    """
    data = config["data"]
    if config["table"] is not None:
        return
    for key in ("root", "classes"):
        # An argument may be made of it, as `folder: ${data.root}/left`.
        if data[key] is not None and not any(str(data[key]) in str(data[split]) for split in ("train", "val")):
            shown = data[key] if isinstance(data[key], str) else "[...]"
            name = str(data["train"]["_target_"]).rsplit(".", 1)[-1]
            yield f"data.{key}={shown} is read by no data set of this run, which takes {name}: was data=NAME forgotten?"
