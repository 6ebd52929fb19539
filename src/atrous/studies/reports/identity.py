"""Who the rows of tables are, without composing those that no run of a store can be, and remembered between reports.

To compose a row takes a good part of a second, and the papers have 180 of them at every scale. An override with a
value is found again in the config of the run that it made, so rows that contradict every run need not be composed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from hydra import compose

from atrous.files import write_text
from atrous.resources import conf_folder, experiments_folder
from atrous.studies.configuration import resolve
from atrous.studies.overrides import key_of, parse
from atrous.studies.parents import identity_of
from atrous.studies.reports.store import Store
from atrous.studies.table import Row
from atrous.weights.zoo import is_file

_COMPARED = ("model.", "backbone.", "output_stride", "data.train.", "data.val.", "data.evaluation_size", "recipe.")
_CLASSES = ("data.classes", "data.train.classes", "data.val.classes")
_BUDGET = "recipe.max_steps"  # a run with another budget is told beside its row
_OF_FILES = re.compile(r"pretrained|classes|parent")  # may name files, what is in which says who a row is


@dataclass(frozen=True)
class Identified:
    """Who a row is: the name of its trainings, their budget, and the server that its archive is for.

    `families` holds their family, and beside it the one that runs of before noted.
    """

    name: str
    families: Sequence[str]
    max_steps: int
    submission: str | None = None


def identify_row(row: Row, seed: int) -> Identified:
    """Compose a row; needs an initialised Hydra."""
    overrides = [*row.overrides, f"seed={seed}"]
    config = resolve(compose(config_name="train", overrides=overrides), needs_root=False)
    identity = identity_of(config, overrides)
    families, steps = (identity.family, identity.former_family), int(config["recipe"]["max_steps"])
    return Identified(identity.name, families, steps, config["submission"])


class Remembered:
    """Answers that cost time, kept in a file until a config, or the code that reads it, is another one.

    A file that cannot be read is one without answers, and one that cannot be written, as in a store of others, keeps
    none: all of them can be found again.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._digest, self._is_new = path, _digest(), False
        self._content: dict[str, Any] = {}
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError):
            return
        if not isinstance(content, dict) or content.get("digest") != self._digest:
            return
        answers = content.get("answers")
        if isinstance(answers, dict) and content.get("sum") == _sum(answers):
            self._content = answers

    def get(self, kind: str, key: str, make: Callable[[], Any]) -> Any:
        """The answer for a key, made if it is not known; plain values of JSON."""
        known = self._content.setdefault(kind, {})
        if key not in known:
            known[key], self._is_new = make(), True
        return known[key]

    def save(self) -> None:
        """Write what is new, if that can be."""
        if self._is_new:
            with suppress(OSError):
                facts = {"digest": self._digest, "sum": _sum(self._content), "answers": self._content}
                write_text(self._path, json.dumps(facts))


class Identifier:
    """Says who a row is, if a run of the store can be it."""

    def __init__(self, store: Store, remembered: Remembered) -> None:
        self._configs = [run.config for run in store.runs]
        self._remembered = remembered
        self._choices: dict[Path, list[Any]] = {}

    def __call__(self, row: Row, seed: int) -> Identified | None:
        """The row's identity; None where it contradicts every run."""
        if not self.could_be(row.overrides):
            return None
        key = json.dumps(row.overrides)
        if _reads_files(row.overrides):
            return identify_row(row, seed)
        return Identified(**self._remembered.get("identities", key, lambda: asdict(identify_row(row, seed))))

    def could_be(self, overrides: Sequence[str]) -> bool:
        """Whether some run's config contradicts none of the overrides."""
        wanted = self._remembered.get("wanted", json.dumps(overrides), lambda: list(self._wanted(overrides)))
        return any(_fits(config, wanted) for config in self._configs)

    def _wanted(self, overrides: Sequence[str]) -> Iterator[tuple[list[str], Any]]:
        """What a run's config must hold if these overrides made it, as (place, value)."""
        for override in parse(overrides):
            key, value = key_of(override), override.value()
            choice = conf_folder() / key / f"{value}.yaml"
            if choice.is_file():
                yield from (([*key.split("."), *place], target) for place, target in self._targets(choice))
            elif key.startswith(_COMPARED) and key != _BUDGET and _is_plain(value):
                yield key.split("."), value

    def _targets(self, choice: Path) -> list[Any]:
        if choice not in self._choices:
            self._choices[choice] = list(_targets_in(yaml.safe_load(choice.read_text())))
        return self._choices[choice]


def _reads_files(overrides: Sequence[str]) -> bool:
    """Whether who a row is, or a training that it starts from, depends on what is in a file."""
    for override in parse([text for text in overrides if _OF_FILES.search(text)]):
        key, value = key_of(override), override.value()
        if key == "parent" and isinstance(value, list) and _reads_files([str(entry) for entry in value]):
            return True
        if key in _CLASSES and isinstance(value, str):
            return True
        if key == "recipe.pretrained" and isinstance(value, str) and not _is_published(value):
            return True
    return False


def _is_published(pretrained: str) -> bool:
    """Whether initial weights count by their name."""
    return not is_file(pretrained) and re.search(r"[/.$]", pretrained) is None


def _fits(config: Mapping[str, Any], wanted: Sequence[tuple[Sequence[str], Any]]) -> bool:
    """Whether a config holds what is wanted, as far as it can be compared."""
    for place, value in wanted:
        node: Any = config
        for key in place:
            node = node.get(key, _Missing) if isinstance(node, Mapping) else _Missing
        if node is not _Missing and _differ(node, value):
            return False
    return True


class _Missing:
    """Stands for a key that a config does not have."""


def _differ(there: Any, wanted: Any) -> bool:
    """Whether two values differ; a text may stand for another type until its schema has read it."""
    if isinstance(wanted, str) and not isinstance(there, str):
        return there is None
    return bool(there != wanted)


def _is_plain(value: Any) -> bool:
    """Whether a value is written in an override as it is in a config."""
    if isinstance(value, list):
        return all(_is_plain(entry) and not isinstance(entry, str) for entry in value)
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and "$" not in value)


def _targets_in(node: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every constructor that a file of conf/ names, with its place."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if key == "_target_":
            yield (*place, key), value
        yield from _targets_in(value, (*place, key))


def _sum(answers: Mapping[str, Any]) -> str:
    """A hash of the answers: one that a disk has changed would make a row another one."""
    return hashlib.sha256(json.dumps(answers).encode()).hexdigest()


def _digest() -> str:
    """A hash of all that the answers depend on: the configs, the code that reads them, and Hydra."""
    digest = hashlib.sha256(f"{version('hydra-core')} {version('omegaconf')}".encode())
    folders = {conf_folder(): "*.yaml", experiments_folder(): "*.yaml", Path(__file__).parents[1]: "*.py"}
    for folder, pattern in folders.items():
        for path in sorted(folder.rglob(pattern)):
            digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()
