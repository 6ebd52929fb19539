"""A table as data: rows of a paper, or of any sweep, and the plain command of every row.

A row becomes a list of ordinary Hydra overrides, in this order: the table's, the scale's, the row's, the user's. The
scale also substitutes values (a small backbone for a large one), so that the same rows run on a laptop. No magic is
left: `atrous-train` with a row's overrides is that row.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from atrous.errors import ConfigError
from atrous.evaluation.protocol import load_protocol

_OF_THE_TABLE = ("experiment", "scale", "rows", "fail_fast", "output", "sweep", "subject", "tflops")
_BUDGET = ("recipe.max_steps",)


@dataclass(frozen=True)
class Row:
    """One row: the overrides that make its run, and what the paper reports (fractions are percent there).

    A row that is `unreachable`, for the reason given, is shown and never trained.
    """

    name: str
    overrides: tuple[str, ...]
    columns: Mapping[str, Any]
    paper: Mapping[str, float] = field(default_factory=dict)
    protocol: str = "single"
    note: str = ""
    unreachable: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of a paper's table at one scale, or of a sweep that no paper has."""

    name: str
    title: str
    rows: tuple[Row, ...]
    paper: str = ""
    trend: str = ""
    scale: str = ""
    scale_label: str = ""
    is_reproduction: bool = False
    deviations: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """Folder of the table's report, relative to <store>/reports."""
        return f"{self.name}/{self.scale}" if self.scale else self.name


@dataclass(frozen=True)
class Sweep:
    """A table and the values of its seeds."""

    table: Table
    seeds: tuple[int, ...]

    def jobs(self) -> list[tuple[Row, list[str]]]:
        """Every training at every seed, first all at the first seed, as overrides of a single run.

        Rows that differ in their protocol alone share a training, which bears the name of the first of them.
        """
        context = [f"table={self.table.name}"] if self.table.paper else []
        trainings: dict[tuple[str, ...], list[Row]] = {}
        for row in self.table.rows:
            if not row.unreachable:
                trainings.setdefault(row.overrides, []).append(row)
        return [
            (rows[0], [*rows[0].overrides, f"seed={seed}", _protocols(rows), f"row={rows[0].name}", *context])
            for seed in self.seeds
            for rows in trainings.values()
        ]


def _protocols(rows: Sequence[Row]) -> str:
    return f"protocols=[{','.join(dict.fromkeys(row.protocol for row in rows))}]"


def sweep_of(config: DictConfig, arguments: Sequence[str]) -> Sweep:
    """The sweep that a command line asks for.

    Args:
        config: the composed config of the command line.
        arguments: its overrides.

    Raises:
        ConfigError: a scale without a table, an unknown or double row, two rows that are the same run.
    """
    if config.experiment is None and config.scale is not None:
        raise ConfigError(f"scale={config.scale.name} is a size of tables: use it with -m +experiment=...")
    overrides = [override for override in _parse(arguments) if _key(override) not in _OF_THE_TABLE]
    user = {_key(override): override for override in overrides}
    seeds = tuple(int(seed) for seed in _values(user.pop("seed", None), default=config.seed))
    free = {key: override for key, override in user.items() if override.is_sweep_override()}
    fixed = [override.input_line or "" for key, override in user.items() if key not in free]
    table = _paper_table(config, fixed) if config.experiment is not None else _free_table(free, fixed)
    if config.experiment is not None and free:
        table = _crossed(table, free)
    return Sweep(_selected(table, config.rows), seeds)


def without_budget(arguments: Sequence[str]) -> list[str]:
    """The overrides that say what a row is when it is trained in full: a cut `recipe.max_steps` is dropped."""
    return [text for text, override in zip(arguments, _parse(arguments), strict=True) if _key(override) not in _BUDGET]


def merge(overrides: Sequence[str]) -> list[str]:
    """Overrides of which the last one of each key wins, group choices before values."""
    last = {_key(override): override.input_line or "" for override in _parse(overrides)}
    return sorted(last.values(), key=lambda text: "." in text.split("=", 1)[0])


def substitute(overrides: Sequence[str], table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Overrides with the values that a scale replaces, e.g. `backbone=resnet101` -> `backbone=tiny`."""
    result = []
    for override in _parse(overrides):
        inner_overrides: Any = override.value()
        if _key(override) == "parent" and isinstance(inner_overrides, list):
            inner = substitute([str(getattr(entry, "text", entry)) for entry in inner_overrides], table)
            result.append(f"parent=[{','.join(repr(text) for text in inner)}]")
            continue
        key, value = _key(override), str(override.get_value_element_as_str())
        replacement = {str(given): wanted for given, wanted in table.get(key, {}).items()}.get(value)
        result.append((override.input_line or "") if replacement is None else f"{key}={replacement}")
    return result


def _paper_table(config: DictConfig, user: Sequence[str]) -> Table:
    experiment, scale = config.experiment, config.scale
    substitutes = OmegaConf.to_container(scale.substitute) if scale is not None else {}
    assert isinstance(substitutes, dict)
    of_scale = list(scale.overrides) if scale is not None else []
    rows = []
    for row in experiment.rows:
        if not load_protocol(row.protocol).is_whole_image:
            raise ConfigError(f"{experiment.table}: row {row.name!r} has protocol {row.protocol}: not whole images")
        of_paper = substitute([*experiment.overrides, *row.overrides], substitutes)  # type: ignore[arg-type]
        split = len(experiment.overrides)
        overrides = merge([*of_paper[:split], *of_scale, *of_paper[split:], *user])
        columns, paper = dict(row.columns), {str(key): float(value) for key, value in row.paper.items()}
        rows.append(Row(row.name, tuple(overrides), columns, paper, row.protocol, row.note, row.unreachable))
    return Table(
        name=experiment.table,
        title=experiment.title,
        rows=tuple(rows),
        paper=experiment.paper,
        trend=experiment.trend,
        scale="paper" if scale is None else scale.name,
        scale_label="the paper's own data, backbone, crop and schedule" if scale is None else scale.label,
        is_reproduction=scale is None or scale.is_reproduction,
        deviations=tuple(experiment.deviations),
    )


def _free_table(free: Mapping[str, Override], fixed: Sequence[str]) -> Table:
    """Every combination of the swept values; what is swept becomes the columns."""
    keys, rows = list(free), []
    for values in itertools.product(*(_values(free[key], default=None) for key in keys)):
        chosen = dict(zip(keys, values, strict=True))
        name = "-".join(_slug(value) for value in values) or "run"
        overrides = tuple(merge([*fixed, *(f"{key}={value}" for key, value in chosen.items())]))
        rows.append(Row(name, overrides, chosen))
    text = " ".join([*fixed, *(free[key].input_line or "" for key in keys)])
    name = f"sweep-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return Table(name=name, title=text or "one run", rows=tuple(rows))


def _crossed(table: Table, free: Mapping[str, Override]) -> Table:
    """A paper's table with further keys swept: every row at every combination."""
    rows = []
    for row, extra in itertools.product(table.rows, _free_table(free, ()).rows):
        overrides = tuple(merge([*row.overrides, *extra.overrides]))
        columns = {**row.columns, **extra.columns}
        rows.append(replace(row, name=f"{row.name}-{extra.name}", overrides=overrides, columns=columns))
    return Table(**{**table.__dict__, "rows": tuple(rows)})


def _selected(table: Table, names: Sequence[str] | None) -> Table:
    known = [row.name for row in table.rows]
    for name in names or ():
        if name not in known:
            raise ConfigError(f"rows: {table.name} has no row {name!r}; it has {', '.join(known)}")
    seen: dict[tuple[Any, ...], str] = {}
    for row in (row for row in table.rows if not row.unreachable):
        twin = seen.setdefault((row.overrides, row.protocol), row.name)
        if twin != row.name or known.count(row.name) > 1:
            raise ConfigError(f"{table.name}: rows {twin!r} and {row.name!r} are the same run under two names")
    rows = tuple(row for row in table.rows if not names or row.name in names)
    return Table(**{**table.__dict__, "rows": rows})


def _parse(arguments: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(arguments))


def _key(override: Override) -> str:
    return str(override.get_key_element()).lstrip("+")


def _values(override: Override | None, *, default: Any) -> list[str]:
    if override is None:
        return [str(default)]
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [str(override.get_value_element_as_str())]


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in str(text))[:24].lower()
