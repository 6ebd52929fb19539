"""The sweep that a command line asks for: a paper's table at a scale, or every combination of what is swept.

A row becomes a list of ordinary Hydra overrides, in this order: the table's, the scale's, the row's, the user's. The
scale also substitutes values (a small backbone for a large one), so that the same rows run on a laptop. No magic is
left: `atrous-train` with a row's overrides is that row.
"""

import hashlib
import itertools
import posixpath
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra import compose
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from atrous.errors import ConfigError
from atrous.studies.configuration import OF_THE_TABLE
from atrous.studies.identity import tells_apart
from atrous.studies.overrides import key_of, merge, parse, substitute, values_of
from atrous.studies.table import Row, Sweep, Table
from atrous.studies.table_changes import changed_by, changes_of
from atrous.studies.table_checks import check_experiment

_OF_THE_SWEEP = ("row", "table")


def sweep_of(config: DictConfig, arguments: Sequence[str]) -> Sweep:
    """The sweep that a command line asks for.

    Args:
        config: the composed config of the command line.
        arguments: its overrides.

    Raises:
        ConfigError: a scale without a table, an unknown or double row, two rows that are the same run, or a key that
            cannot be given, or swept, here.
    """
    given = {key_of(override): override for override in parse(arguments)}
    _check_keys(given, is_table=config.experiment is not None)
    if config.experiment is None and config.scale is not None:
        raise ConfigError(f"scale={config.scale.name} is a size of tables: use it with -m +experiment=...")
    user = {key: override for key, override in given.items() if key not in OF_THE_TABLE}
    seeds = tuple(dict.fromkeys(_seed(text) for text in values_of(user.pop("seed", None), default=config.seed)))
    protocols = [str(name) for name in config.protocols] if user.pop("protocols", None) is not None else ["single"]
    free = {key: override for key, override in user.items() if override.is_sweep_override()}
    fixed = [override.input_line or "" for key, override in user.items() if key not in free]
    if config.experiment is None:
        table = _free_table(free, fixed, protocols)
    else:
        check_experiment(config.experiment, place=_place(given["experiment"]) if "experiment" in given else None)
        table = _paper_table(config, fixed)
    if config.experiment is not None and free:
        table = changed_by(_crossed(table, free), [override.input_line or "" for override in free.values()])
    return Sweep(_selected(table, config.rows), seeds, asks_for_seeds="seed" in given)


def _check_keys(given: Mapping[str, Override], *, is_table: bool) -> None:
    for key, override in given.items():
        if key in _OF_THE_SWEEP:
            raise ConfigError(f"{override.input_line}: a sweep sets {key} itself")
        if key.startswith(("experiment.", "scale.")):
            raise ConfigError(
                f"{override.input_line}: a table and a scale are as their files say; write one of your own"
            )
        if key == "protocols" and (is_table or override.is_sweep_override()):
            advice = "the rows of a table say theirs; atrous-evaluate measures finished runs under others"
            raise ConfigError(f"{override.input_line}: {advice if is_table else 'protocols=[a,b] measures under both'}")
        if not override.is_sweep_override() or key == "seed":
            continue
        if key == "rows":
            names = ",".join(values_of(override, default=None))
            raise ConfigError(f"{override.input_line}: several rows are a list, 'rows=[{names}]'")
        if key in OF_THE_TABLE:
            raise ConfigError(f"{override.input_line}: one at a time; make reproduce-all makes every table")
        if not tells_apart(key):
            raise ConfigError(
                f"{override.input_line}: {key} is no part of what a training is, so that every row would be the same "
                "one: start each value by itself, with a store= of its own"
            )


def _place(choice: Override) -> str:
    """The place of a table's file, however Hydra was given it: ./deeplabv3/table1.yaml is deeplabv3/table1."""
    return posixpath.normpath(str(choice.value()).removesuffix(".yaml"))


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"seed={text}: a whole number from 0 to 2**64 - 1") from None


def _paper_table(config: DictConfig, user: Sequence[str]) -> Table:
    experiment = config.experiment
    scale = config.scale if config.scale is not None else compose(config_name="scale/paper").scale
    substitutes: Any = OmegaConf.to_container(scale.substitute)
    rows, without_user = [], []
    for row in experiment.rows:
        of_paper = substitute([*experiment.overrides, *row.overrides], substitutes)
        split = len(experiment.overrides)
        own = [*of_paper[:split], *scale.overrides, *of_paper[split:]]
        overrides = merge([*own, *user])
        if not row.unreachable:
            without_user.append((merge(own), overrides))
        rows.append(
            Row(
                name=row.name,
                overrides=tuple(overrides),
                columns=dict(row.columns),
                paper={str(key): float(value) for key, value in row.paper.items()},
                protocol=substitutes.get("protocol", {}).get(row.protocol, row.protocol),
                note=row.note,
                unreachable=row.unreachable,
                against=row.against,
            )
        )
    table = Table(
        name=experiment.table,
        title=experiment.title,
        rows=tuple(rows),
        paper=experiment.paper,
        trend=experiment.trend,
        scale=scale.name,
        scale_label=scale.label,
        is_reproduction=scale.is_reproduction,
        deviations=tuple(experiment.deviations),
        metric=substitutes.get("metric", {}).get(experiment.metric, experiment.metric),
        picture=experiment.picture,
    )
    return changed_by(table, changes_of(user, without_user))


def _free_table(free: Mapping[str, Override], fixed: Sequence[str], protocols: Sequence[str] = ("single",)) -> Table:
    """Every combination of the swept values under every protocol; what is swept becomes the columns."""
    keys, rows = list(free), dict[str, Row]()
    for values in itertools.product(*(values_of(free[key], default=None) for key in keys)):
        chosen = dict(zip(keys, values, strict=True))
        overrides = tuple(merge([*fixed, *(f"{key}={value}" for key, value in chosen.items())]))
        for protocol in protocols:
            shown = {"protocol": protocol} if len(protocols) > 1 else {}
            name = _unique("-".join(map(_slug, (*values, *shown.values()))) or "run", rows)
            rows[name] = Row(name, overrides, {**chosen, **shown}, protocol=protocol)
    kept = [f"protocols=[{','.join(protocols)}]"] if list(protocols) != ["single"] else []
    text = " ".join([*fixed, *kept, *(free[key].input_line or "" for key in keys)])
    name = f"sweep-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return Table(name=name, title=text or "one run", rows=tuple(rows.values()))


def _crossed(table: Table, free: Mapping[str, Override]) -> Table:
    """A paper's table with further keys swept: every row at every combination."""
    rows = []
    for row, extra in itertools.product(table.rows, _free_table(free, ()).rows):
        overrides = tuple(merge([*row.overrides, *extra.overrides]))
        columns = {**row.columns, **extra.columns}
        name, against = (f"{text}-{extra.name}" if text else "" for text in (row.name, row.against))
        rows.append(replace(row, name=name, against=against, overrides=overrides, columns=columns))
    return replace(table, rows=tuple(rows))


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
    held_against = {row.against for row in rows}
    baselines = tuple(row for row in table.rows if row not in rows and row.name in held_against)
    return replace(table, rows=rows, baselines=baselines, left_out=len(table.rows) - len(rows))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._]", "_", str(text).lower())[:24]


def _unique(name: str, taken: Container[str]) -> str:
    """The name, with a number behind it where it is taken: two long values may begin alike."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)
