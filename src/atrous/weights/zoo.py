"""The zoo of released weights by name: the rows of zoo.yaml as values. Nothing is fetched and nothing built here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from atrous.errors import ConfigError

_FILE = Path(__file__).with_name("zoo.yaml")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A score that was published with the weights, and how it was measured.

    Attributes:
        output_stride: At evaluation.
        scales: Of the image.
        flip: Whether the mirror image was averaged in.
        miou: In percent.
        split: "val" or "test".
        multiply_adds: In billions, as published (operations of all scales and flips); None where they were not.
    """

    output_stride: int
    scales: tuple[float, ...]
    flip: bool
    miou: float
    split: str
    multiply_adds: float | None


@dataclass(frozen=True, kw_only=True)
class Network:
    """What the weights are for, in plain values.

    Attributes:
        model: A class of `atrous.networks.deeplab`, or None for a backbone alone.
        backbone: A backbone's name, such as "xception65".
        backbone_options: Arguments of the backbone's constructor, beyond its defaults.
        arguments: Arguments of the model's constructor, beyond backbone and num_classes; `context: "dpc"` stands for
            the dense prediction cell. Atrous rates are written for output stride 16.
    """

    model: str | None
    backbone: str
    backbone_options: Mapping[str, Any]
    arguments: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One released file.

    Attributes:
        name: Ours.
        aliases: Names that other zoos have for it.
        url: Where it is published.
        sha256: All digits or the first ones; None where they are not known.
        megabytes: Size as the release's page says; None where it does not.
        format: "tensorflow" (a .tar.gz with a V2 checkpoint) or "torchvision" (a state dict).
        dataset: Of the last training stage: voc2012, coco_voc (COCO with VOC's labels), cityscapes, ade20k, imagenet.
        classes: Of the classifier, background included.
        preprocessing: "inception" or "imagenet", as `Preprocessing.named` takes it.
        network: What the weights are for.
        expected: Published scores; none for ImageNet weights.
    """

    name: str
    aliases: tuple[str, ...]
    url: str
    sha256: str | None
    megabytes: float | None
    format: str
    dataset: str
    classes: int
    preprocessing: str
    network: Network
    expected: tuple[Expected, ...]


def presets() -> tuple[str, ...]:
    """Return the names of all presets, aliases left out, in the order of the file."""
    return tuple(_rows())


def preset(name: str) -> Preset:
    """Return a preset by its name or an alias.

    Raises:
        ConfigError: There is none; the message lists names that are close.
    """
    rows = _rows()
    names = {alias: own for own, row in rows.items() for alias in (own, *row.get("aliases", ()))}
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        advice = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(rows)}"
        raise ConfigError(f"weights {name!r} are unknown; {advice}")
    return _preset(names[name], rows[names[name]])


def is_file(source: str) -> bool:
    """Tell whether `source` names weights on this machine: a file, or a TensorFlow checkpoint's prefix."""
    return Path(source).is_file() or Path(f"{source}.index").is_file()


@cache
def _rows() -> dict[str, dict[str, Any]]:
    import yaml

    rows: dict[str, dict[str, Any]] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))["presets"]
    return rows


def _preset(name: str, row: Mapping[str, Any]) -> Preset:
    network = Network(**{"backbone_options": {}, **row["network"]})
    expected = tuple(Expected(**{**score, "scales": tuple(score["scales"])}) for score in row["expected"])
    rest = {key: value for key, value in row.items() if key not in ("aliases", "network", "expected")}
    return Preset(name=name, aliases=tuple(row.get("aliases", ())), network=network, expected=expected, **rest)
