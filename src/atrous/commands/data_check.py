"""atrous-data check: read every file of a data set, name every problem, and write a report with pictures."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from atrous.building import build, check_targets
from atrous.data.dataset import PairList
from atrous.data.inspection.check import CheckResult, conclude
from atrous.data.inspection.overlay import choose_samples, read_samples
from atrous.data.inspection.page import SPLIT_HEAD, render_report, split_rows
from atrous.data.inspection.reading import Readings
from atrous.data.inspection.sheet import Figure, draw_sheet
from atrous.data.inspection.splits import Split
from atrous.data.inspection.statistics import as_plain
from atrous.errors import AtrousError, DataError
from atrous.files import write_atomically, write_json, write_text
from atrous.hardware import usable_cores
from atrous.progress import tracked
from atrous.studies.configuration import resolve
from atrous.terminal import plain_table, say

Node = Mapping[str, Any]


class CheckError(DataError):
    """A data set with problems, one per line."""

    exit_code = 1


def check(config: DictConfig) -> None:
    """Check the data set of a config.

    Raises:
        CheckError: names every problem.
        DataError: no split could be opened.
    """
    plain = resolve(config)
    splits = open_splits(plain["data"])
    pairs = Readings(splits)
    workers = min(8, usable_cores()) if plain["workers"] is None else plain["workers"]
    console = Console()
    found = pairs.all(num_workers=workers)
    readings = list(tracked(found, f"reading {pairs.images} images and their masks", total=len(pairs)))
    result = conclude(splits, pairs, readings, allow_shared=plain["data"]["allow_shared_samples"])
    for shown in (_split_table(result), _class_table(result)):
        console.print(shown)
    for note in result.notes:
        say(console, f"note: {note}")
    page = write_report(result, Path(plain["store"]) / "data" / plain["name"], plain)
    say(console, f"report: {page}")
    if result.problems:
        raise CheckError("\n".join(result.problems))
    say(console, f"{plain['name']} passes: {pairs.images} images read, with every mask; {result.sharing}")


def open_splits(data: Node) -> list[Split]:
    """Open the splits that a config uses and, where they are there, the other official ones.

    Args:
        data: the config's data section.

    Raises:
        DataError: no split could be opened.
        ConfigError: a key of a data set does not exist.
    """
    splits: dict[str, Split] = {}
    for key in ("train", "val"):
        node = data[key]
        name = str(node.get("split", key))
        name = f"{name} (as {key})" if name in splits else name
        splits[name] = _open(node, name, where=f"data.{key}", used=True)
    for name in _official_splits(node):
        if name not in splits:
            splits[name] = _open({**node, "split": name}, name, where="data.val", used=False)
    if all(split.dataset is None for split in splits.values()):
        raise DataError(next(iter(splits.values())).problem)
    return list(splits.values())


def write_report(result: CheckResult, folder: Path, config: Node) -> Path:
    """Write index.html, statistics.json and a contact sheet; return the page's path."""
    figures = dict(_figures(result, config["samples"]))
    write_text(folder / "index.html", render_report(result, figures, name=config["name"], command=_command(config)))
    classes = result.spec.classes
    statistics = {name: as_plain(entry, classes) for name, entry in result.statistics.items()}
    write_json(folder / "statistics.json", {"splits": statistics, "problems": result.problems})
    for split, chosen in figures.items():
        sheet = draw_sheet(
            chosen,
            result.spec,
            title=f"{config['name']}, {split}",
            subtitle=f"{len(chosen)} of {result.statistics[split].listed} images with their labels",
            columns=4,
            cell=(320, 240),
            beside=False,
        )
        write_atomically(folder / f"samples_{split}.png", partial(sheet.save, format="PNG", optimize=True))
    return folder / "index.html"


def _command(config: Node) -> str:
    """The command line that a person would type, out of the keys that its words stand for."""
    given = [str(word) for word in HydraConfig.get().overrides.task]
    keys = [word for word in given if word.partition("=")[0] not in ("action", "name", "data")]
    return shlex.join(["atrous-data", "check", config["name"], *keys])


def _figures(result: CheckResult, number: int) -> Iterator[tuple[str, list[Figure]]]:
    for split in result.used:
        assert split.dataset is not None
        statistics = result.statistics[split.name]
        chosen = choose_samples(statistics.counts[:, :-1], number)
        read = read_samples(split.dataset, [statistics.readable[row] for row in chosen])
        if read:
            yield split.name, [Figure(*sample) for sample in read]


def _open(node: Node, name: str, *, where: str, used: bool) -> Split:
    check_targets(node, where=where)
    target = node["_target_"]
    if issubclass(get_class(target), PairList):
        target = f"{target}.unverified"
    try:
        return Split(name=name, dataset=build({**node, "_target_": target}, where=where), used=used)
    except AtrousError as error:
        if used and not isinstance(error, DataError):
            raise  # a key is wrong, not the data
        return Split(name=name, problem=str(error), used=used)


def _official_splits(node: Node) -> tuple[str, ...]:
    """Return the splits that the data set's file lists with their counts; none for your own folder."""
    module = sys.modules[get_class(node["_target_"]).__module__]
    return tuple(getattr(module, "OFFICIAL_COUNTS", ()))


def _split_table(result: CheckResult) -> Table:
    return plain_table(f"{result.spec.name}: splits", SPLIT_HEAD, split_rows(result), words=SPLIT_HEAD[:1])


def _class_table(result: CheckResult) -> Table:
    head = ["class", *(f"{what}\n{split.name}" for split in result.used for what in ("images", "of pixels"))]
    rows = []
    for label, name in enumerate(result.spec.classes):
        statistics = [result.statistics[split.name] for split in result.used]
        shares = [(f"{of.images_of[label]}", f"{100 * of.pixel_share_of[label]:.3f}%") for of in statistics]
        rows.append([name, *(text for pair in shares for text in pair)])
    return plain_table(f"{result.spec.name}: classes", head, rows, words=head[:1])
