"""Any set of runs as a table: what differs between their configs becomes the columns, seeds are averaged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from atrous.errors import ConfigError
from atrous.studies.reports.results import measured_row
from atrous.studies.reports.rows import TableResult
from atrous.studies.reports.store import StoredRun, may_be_there, read_runs
from atrous.studies.table import Row, Table

# The machine, the place and the occasion: nothing of it tells two trainings apart.
_NOT_COMPARED = ("seed", "store", "table", "row", "protocols", "boundary", "submission", "logger", "parent_root")
_NOT_COMPARED_IN = {"trainer": {"accumulate"}, "data": {"train", "val", "evaluation_size", "bootstrap", "classes"}}


def collect_runs(patterns: Sequence[str]) -> TableResult:
    """Compare the runs of folders that globs name: run folders, or folders that hold some.

    Seeds of one training are one row, also from several stores; where two of them are the same seed, every store has
    a row of its own.

    Raises:
        ConfigError: A glob finds no run, or is none, or there is no glob.
    """
    if not patterns:
        raise ConfigError("runs=[] names no run: e.g. runs='outputs/runs/deeplabv3-*'")
    found = [folder for pattern in patterns for folder in _folders(pattern)]
    folders = {folder.resolve(): folder for folder in reversed(found)}  # of two names of a folder, the first
    stored = read_runs(Path(), reversed(folders.values()))
    groups, places = _trainings(stored.runs)
    protocols = _protocols(stored.runs)
    columns = _columns({name: runs[0].config for name, runs in groups.items()}, places)
    rows = []
    for name, runs in groups.items():
        for protocol in protocols:
            shown = columns[name] | ({"protocol": protocol} if len(protocols) > 1 else {})
            row = Row(name=name, overrides=(), columns=shown, protocol=protocol)
            rows.append(measured_row(row, runs, metric="miou", command=str(runs[0].facts["command"])))
    text = " ".join(patterns)
    name = f"runs-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    table = Table(name=name, title=f"Runs of {text}", rows=tuple(row.row for row in rows))
    return TableResult(table, tuple(rows), stored.damaged)


def _folders(pattern: str) -> Iterator[Path]:
    found = _named(pattern)
    runs = [run for path in found for run in ([path] if _is_run(path) else sorted(path.glob("seed*"))) if _is_run(run)]
    if not runs:
        what = "finds nothing" if not found else f"finds {len(found)} path(s), but no folder of a run"
        raise ConfigError(
            f"runs={pattern!r} {what}; e.g. runs='outputs/runs/deeplabv3-*' or runs=outputs/runs/NAME/seed0, and for "
            "several \"runs=['a/runs/*','b/runs/*']\""
        )
    return iter(runs)


def _named(pattern: str) -> list[Path]:
    """The paths that a glob stands for; where it begins with the very name of a folder, brackets too, that is meant."""
    path = Path(pattern)
    place, rest = Path(path.anchor), [*path.relative_to(path.anchor).parts]
    while rest and _is_there(place / rest[0]):
        place /= rest.pop(0)
    if any("**" in part and part != "**" for part in rest):  # what that stands for is Python's version's own
        raise ConfigError(
            f"runs={pattern!r} is no glob: * is any part of a name, as in runs='outputs/runs/deeplabv3-*', and ** any "
            "folders, alone between slashes as in runs='outputs/**/seed0'"
        )
    return sorted(place.glob("/".join(rest))) if rest else [place]


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _is_run(path: Path) -> bool:
    """Whether a folder is a run's, also where one of the files that it begins with is gone, which is told then."""
    return any(may_be_there(path / name) for name in ("run.json", "config.yaml"))


def _trainings(runs: Sequence[StoredRun]) -> tuple[dict[str, list[StoredRun]], dict[str, str]]:
    """The seeds of every row by its name, in their order, and where a row lies if that is needed to tell rows apart."""
    of_name: dict[str, list[StoredRun]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        of_name.setdefault(run.name, []).append(run)
    groups: dict[str, list[StoredRun]] = {}
    places: dict[str, str] = {}
    for name in dict.fromkeys(run.name for run in runs):
        if _are_apart(of_name[name]):
            groups[name] = of_name[name]
            continue
        of_store = _by(of_name[name], _store)
        is_enough = all(map(_are_apart, of_store.values()))
        for place, seeds in (of_store if is_enough else _by(of_name[name], lambda path: path)).items():
            groups[f"{name} in {place}"], places[f"{name} in {place}"] = seeds, place
    return groups, places


def _are_apart(runs: Sequence[StoredRun]) -> bool:
    """Whether no two runs of a training have the same seed."""
    return len({run.seed for run in runs}) == len(runs)


def _by(runs: Sequence[StoredRun], place: Callable[[Path], Path]) -> dict[str, list[StoredRun]]:
    found: dict[str, list[StoredRun]] = {}
    for run in runs:
        found.setdefault(str(place(run.folder.path)), []).append(run)
    return dict(sorted(found.items()))


def _store(folder: Path) -> Path:
    """The store of a run folder, <store>/runs/<name>/seed<k>."""
    return folder.parents[2] if len(folder.parents) > 2 else folder


def _protocols(runs: Sequence[StoredRun]) -> list[str]:
    """Every protocol that a run was measured with, or, where none was, is to be measured with."""
    measured = dict.fromkeys(name for run in runs for name in run.evaluations)
    asked = dict.fromkeys(str(name) for run in runs for name in run.config.get("protocols", []))
    return list(measured or asked or {"single": None})


def _columns(configs: Mapping[str, Mapping[str, Any]], places: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What tells the configs apart, by their names: first the place, where there are some.

    An argument that only some of them have, because they build another kind of network or data set, is a column only
    if it differs between those.
    """
    flat = {
        name: {**({"store": places.get(name, "")} if places else {}), **dict(_flat(config))}
        for name, config in configs.items()
    }
    keys = dict.fromkeys(key for values in flat.values() for key in values)
    differing = [key for key in keys if len({repr(values[key]) for values in flat.values() if key in values}) > 1]
    kept: dict[tuple[str, ...], str] = {}
    for key in differing:  # train and val of a data set mostly say the same
        what = (_last(key), *(repr(values.get(key)) for values in flat.values()))
        kept.setdefault(what, key)
    titles = _titles(list(kept.values()))
    columns = {name: {titles[key]: values.get(key, "") for key in kept.values()} for name, values in flat.items()}
    shown = [repr(values) for values in columns.values()]
    if len(set(shown)) < len(shown):
        return {name: {"run": name, **values} for name, values in columns.items()}
    return columns


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if name in _NOT_COMPARED or key == "root" or str(key) not in _NOT_COMPARED_IN.get(prefix[:-1], {str(key)}):
            continue
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        elif key == "_target_":
            yield name, str(value).rsplit(".", 1)[-1]
        else:
            yield name, value


def _last(key: str) -> str:
    """The word that a column is called by: a constructor bears the name of its place."""
    parts = [part for part in key.split(".") if part != "_target_"]
    return parts[-1]


def _titles(keys: Sequence[str]) -> dict[str, str]:
    words = [_last(key) for key in keys]
    return {
        key: word if words.count(word) == 1 else key.removesuffix("._target_")
        for key, word in zip(keys, words, strict=True)
    }
