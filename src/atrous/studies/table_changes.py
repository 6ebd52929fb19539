"""What a user's own overrides make of a paper's table: where they change a training, it is the paper's no longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hydra import compose

from atrous.errors import AtrousError
from atrous.studies.composing import is_of_hydra
from atrous.studies.configuration import resolve
from atrous.studies.identity import tells_apart
from atrous.studies.overrides import key_of, parse
from atrous.studies.parents import identity_of
from atrous.studies.table import Table


def changes_of(user: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[str]]]) -> tuple[str, ...]:
    """Those of a user's overrides that make other trainings of a table's rows; needs an initialised Hydra.

    Places, machines and loggers make none, nor do values that the rows have anyway.

    Args:
        user: The overrides.
        rows: The overrides of each row without the user's, and with them.
    """
    changes = tuple(_telling(user))
    trainings = dict.fromkeys((tuple(own), tuple(asked)) for own, asked in rows)
    return changes if changes and any(_differ(own, asked) for own, asked in trainings) else ()


def changed_by(table: Table, changes: Sequence[str]) -> Table:
    """The table with the changes that were made to it, which is no reproduction where there are any."""
    if not changes:
        return table
    text = " ".join(changes)
    what = "not a reproduction: the paper's table" if table.is_reproduction else table.scale_label
    return replace(
        table,
        changes=(*table.changes, *changes),
        is_reproduction=False,
        scale_label=f"{what}, changed by {text}",
        deviations=(*table.deviations, *(f"Changed on the command line: {change}" for change in changes)),
    )


def _telling(overrides: Sequence[str]) -> list[str]:
    return [text for text, override in zip(overrides, parse(overrides), strict=True) if tells_apart(key_of(override))]


def _differ(own: Sequence[str], asked: Sequence[str]) -> bool:
    return set(_telling(own)) != set(_telling(asked)) and _name_of(own) != _name_of(asked)


def _name_of(overrides: Sequence[str]) -> str | None:
    """The name of a row's training; None where it cannot be composed, which is told where it is to be trained."""
    try:
        config = resolve(compose(config_name="train", overrides=list(overrides)), needs_root=False)
        return identity_of(config, overrides).name
    except Exception as error:
        if isinstance(error, AtrousError) or is_of_hydra(error):
            return None
        raise
