"""Every table of both papers, at every scale that a run store has anything of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from atrous.resources import conf_folder
from atrous.studies.command_line import sweep_of
from atrous.studies.overrides import substitute
from atrous.studies.reports.identity import Identifier, Remembered
from atrous.studies.reports.results import Identify, collect_from
from atrous.studies.reports.rows import TableResult
from atrous.studies.reports.store import Store
from atrous.studies.table import Sweep, Table
from atrous.studies.table_names import table_names

CACHE = Path("reports") / "remembered.json"


def tables_of_papers(store: Store, *, told: Callable[[str], object]) -> dict[str, list[TableResult]]:
    """Every table beside its measurements, by scale; needs an initialised Hydra, trains nothing.

    Args:
        store: What was read.
        told: Called with what is being looked at.

    Returns:
        The scales that the store has anything of, the paper's first; where there is none, the paper's.
    """
    remembered = Remembered(store.path / CACHE)
    identify, composed = Identifier(store, remembered), _Composed(told)

    def collected(scale: str, known: Identify) -> list[TableResult]:
        told(f"tables at scale {scale}")
        contents = [
            remembered.get("tables", f"{name} {scale}", partial(composed.table, name, scale)) for name in table_names()
        ]
        return [collect_from(store, Sweep(Table.from_plain(content), (0,)), identify=known) for content in contents]

    found = {}
    for scale in scale_names():
        kinds = remembered.get("scales", scale, partial(composed.kinds_of_run, scale))
        if any(identify.could_be(kind) for kind in kinds):
            found[scale] = collected(scale, identify)
    touched = {scale: results for scale, results in found.items() if any(result.is_touched for result in results)}
    if not touched:
        first = scale_names()[0]
        touched = {first: collected(first, lambda row, seed: None)}
    remembered.save()
    return touched


def scale_names() -> list[str]:
    """Return the scales, that of the papers first."""
    return sorted(
        (path.stem for path in (conf_folder() / "scale").glob("*.yaml")), key=lambda name: (name != "paper", name)
    )


class _Composed:
    """Tables as their files say, each composed once for all scales."""

    def __init__(self, told: Callable[[str], object]) -> None:
        self._told = told
        self._tables: dict[str, DictConfig] = {}
        self._scales: dict[str, Any] = {}

    def table(self, name: str, scale: str) -> dict[str, Any]:
        """A table at a scale, as plain values."""
        config = self._table(name).copy()
        config.scale = self._scale(scale)
        return asdict(sweep_of(config, [f"+experiment={name}"]).table)

    def kinds_of_run(self, scale: str) -> list[list[str]]:
        """What any row at a scale overrides, once for each data set of the tables."""
        experiments = [self._table(name).experiment for name in table_names()]
        texts = {text for table in experiments for row in table.rows for text in (*table.overrides, *row.overrides)}
        substitutes: Any = OmegaConf.to_container(self._scale(scale).substitute)
        data = substitute(sorted(text for text in texts if text.startswith("data=")), substitutes)
        return [[*self._scale(scale).overrides, text] for text in dict.fromkeys(data)]

    def _table(self, name: str) -> DictConfig:
        if name not in self._tables:
            self._told(name)
            self._tables[name] = compose(config_name="train", overrides=[f"+experiment={name}"])
        return self._tables[name]

    def _scale(self, name: str) -> Any:
        if name not in self._scales:
            self._scales[name] = compose(config_name="train", overrides=[f"scale={name}"]).scale
        return self._scales[name]
