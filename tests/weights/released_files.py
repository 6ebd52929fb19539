"""What the loaders read in place of released files, which are large and far away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.networks.segmenter import Segmenter
from atrous.weights import released, tf_checkpoint, torchvision
from atrous.weights.matching import LoadReport

ORACLES = Path(__file__).parents[1] / "oracles"
MARK = 7.0  # every value of a file of these tests, which no fresh network has


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the variables of a real file."""
    return {entry: tuple(shape) for entry, shape in json.loads((ORACLES / f"{name}.json").read_text())["variables"]}


class Files:
    """What the loaders read in place of files, and which were asked for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fetched: list[tuple[str, str | None, float | None]] = []
        self.read: list[str] = []
        self.content: Mapping[str, tuple[int, ...]] = {}
        patch.setattr(released, "fetch", self._fetch)
        patch.setattr(tf_checkpoint, "open_checkpoint", self._tensorflow)
        patch.setattr(torchvision, "_read", self._torchvision)

    def _fetch(self, url: str, *, sha256: str | None, megabytes: float | None) -> Path:
        self.fetched.append((url, sha256, megabytes))
        return Path("fetched") / url.rsplit("/", 1)[-1]

    def _tensorflow(self, path: Path) -> dict[str, Any]:
        self.read.append(str(path))
        return {name: np.full(shape, MARK, np.float32) for name, shape in self.content.items()}

    def _torchvision(self, path: Path) -> dict[str, Tensor]:
        self.read.append(str(path))
        return {name: torch.full(shape, MARK) for name, shape in self.content.items()}


def assert_reported(model: Segmenter, report: LoadReport) -> None:
    """Every parameter holds the file's value or is reported as left, and none both."""
    marked = {name for name, parameter in model.named_parameters() if bool((parameter == MARK).all())}
    assert marked | set(report.left) == {name for name, _ in model.named_parameters()}
    assert marked.isdisjoint(report.left)
    assert len(set(report.left)) == len(report.left)
