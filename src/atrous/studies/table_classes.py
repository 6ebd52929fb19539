"""The class that a table is compared by is one of the data set of each of its rows, known before the first training."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose

from atrous.errors import AtrousError, ConfigError
from atrous.studies.composing import is_of_hydra
from atrous.studies.configuration import resolve
from atrous.studies.metrics import class_of
from atrous.studies.table import Table


def check_class(table: Table, *, metric: str) -> None:
    """Refuse a table by the IoU of a class that a row's data set does not have; needs an initialised Hydra.

    Args:
        table: its `metric` is what its scale makes of its file's.
        metric: as its file has it.

    Raises:
        ConfigError: names the file, the key, the row and the classes that there are.
    """
    wanted = class_of(table.metric)
    if wanted is None:
        return
    made = "" if metric == table.metric else f", which scale={table.scale} makes {table.metric!r}"
    for row in (*table.rows, *table.baselines):
        classes = None if row.unreachable else _classes_of(row.overrides)
        if classes is not None and wanted not in classes:
            raise ConfigError(
                f"experiments/{table.name}.yaml: metric={metric!r}{made}: the data set of row {row.name!r} has no "
                f"class {wanted!r}; it has {', '.join(classes)}"
            )


def _classes_of(overrides: Sequence[str]) -> tuple[str, ...] | None:
    """The classes that a row is scored by; None where it cannot be composed, which is told where it is to be run."""
    from atrous.prediction.label_spaces import spec_of_data

    try:
        config = resolve(compose(config_name="train", overrides=list(overrides)), needs_root=False)
        return spec_of_data(config["data"]["val"]).classes
    except Exception as error:
        if isinstance(error, AtrousError) or is_of_hydra(error):
            return None
        raise
