"""What a table's file must say before any of its rows is composed; types and keys are checked by its schema."""

import math
import re
from typing import Any

from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from atrous.errors import ConfigError
from atrous.evaluation.protocol import load_protocol
from atrous.resources import conf_folder
from atrous.studies.configuration import OF_THE_TABLE
from atrous.studies.metrics import check_metric, needs_boundary
from atrous.studies.overrides import key_of, parse
from atrous.studies.reports.pictures import PICTURES

_SET_BY_THE_SWEEP = OF_THE_TABLE | {"protocols", "row", "seed", "store", "table", "hydra"}


def check_experiment(experiment: DictConfig, *, place: str | None = None) -> None:
    """Refuse a table that cannot be run or read as its author means it.

    Args:
        experiment: the file's content.
        place: of the file, such as deeplabv3/table1, where it is known.

    Raises:
        ConfigError: names the file, the row and the key.
    """
    _check_interpolations(experiment, file=f"experiments/{place}.yaml" if place else "experiment")
    if OmegaConf.is_missing(experiment, "table"):
        raise ConfigError("experiment.table has no value: give the file's own place, e.g. deeplabv3/table1")
    file = f"experiments/{place or experiment.table}.yaml"
    if place not in (None, experiment.table):
        raise ConfigError(
            f"{file}: table={experiment.table!r} is another file's place, whose report this one's would replace; "
            f"its own is {place}"
        )
    for key in ("paper", "title"):
        if OmegaConf.is_missing(experiment, key):
            raise ConfigError(f"{file}: {key} has no value")
    check_metric(experiment.metric, where=file)
    if experiment.picture and experiment.picture not in PICTURES:
        raise ConfigError(f"{file}: picture={experiment.picture!r} is none of {', '.join(PICTURES)}")
    _parsed(experiment.overrides, where=f"{file}: overrides")
    names = [_name(row, index, file) for index, row in enumerate(experiment.rows)]
    rows = dict(zip(names, experiment.rows, strict=True))
    if len(rows) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{file}: there are two rows {twice!r}; each needs a name of its own")
    if not rows and not experiment.picture:
        raise ConfigError(f"{file}: rows=[] leaves nothing to train, and no picture= is drawn")
    for name, row in rows.items():
        _check_row(row, rows, where=f"{file}: row {name!r}")
    if needs_boundary(experiment.metric) and "boundary=true" not in experiment.overrides:
        raise ConfigError(f"{file}: metric={experiment.metric} needs boundary=true in overrides")


def _check_interpolations(experiment: DictConfig, *, file: str) -> None:
    try:
        OmegaConf.to_container(experiment, resolve=True)
    except OmegaConfBaseException as error:
        key = str(error.full_key).removeprefix("experiment.")
        row = re.match(r"rows\[(\d+)\]", key)
        plain: Any = OmegaConf.to_container(experiment, resolve=False)
        where = f"{file}: row {plain['rows'][int(row[1])]['name']!r}: {key}" if row else f"{file}: {key}"
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}; \\${{ leaves it to the row's own run") from None


def _name(row: DictConfig, index: int, file: str) -> str:
    if OmegaConf.is_missing(row, "name"):
        raise ConfigError(f"{file}: rows[{index}] has no name")
    if not re.fullmatch(r"[a-z0-9-]+", row.name):
        raise ConfigError(f"{file}: the row name {row.name!r} has other letters than a-z, 0-9 and -, e.g. os8-flip")
    return str(row.name)


def _check_row(row: DictConfig, rows: dict[str, Any], *, where: str) -> None:
    if OmegaConf.is_missing(row, "overrides"):
        raise ConfigError(f"{where} overrides nothing: give its overrides, or overrides: [] for the table's own run")
    _parsed(row.overrides, where=f"{where}: overrides")
    try:
        protocol = load_protocol(row.protocol)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if not protocol.is_whole_image:
        raise ConfigError(f"{where} has protocol {row.protocol}: not whole images")
    if row.against and (row.against not in rows or row.against == row.name):
        raise ConfigError(f"{where}: against={row.against!r} is no other row; there are {', '.join(rows)}")
    for key, value in row.paper.items():
        if not math.isfinite(value):
            raise ConfigError(f"{where}: paper.{key}={value} is not a number that a paper prints")


def _parsed(overrides: Any, *, where: str) -> None:
    seen: dict[str, str] = {}
    for text in overrides:
        try:
            (override,) = parse([text])
        except OverrideParseException:
            raise ConfigError(f"{where}: {text!r} is not an override, e.g. output_stride=8") from None
        if re.split("[./]", override.key_or_group)[0] in _SET_BY_THE_SWEEP:
            raise ConfigError(f"{where}: {text!r} is {_of_the_sweep(override.key_or_group)}")
        if override.is_sweep_override():
            key = key_of(override)
            raise ConfigError(f"{where}: {text!r} is several values; a row has one of each, or a list '{key}=[...]'")
        choices = [path.stem for path in (conf_folder() / key_of(override)).glob("*.yaml")]
        if choices and not override.is_delete() and not isinstance(override.value(), str | list | dict):
            raise ConfigError(
                f"{where}: {text!r} is no choice of {key_of(override)}; there are {', '.join(sorted(choices))}"
            )
        first = seen.setdefault(key_of(override), text)
        if first != text:
            raise ConfigError(f"{where}: {first!r} and {text!r} set the same key")


def _of_the_sweep(key: str) -> str:
    if key == "protocols":
        return "set by the sweep itself: a row has protocol: NAME beside its overrides"
    if key in ("row", "table"):
        return "set by the sweep itself"
    return "for the command line of the sweep, which sets it for all rows"
