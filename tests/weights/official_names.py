"""Names and shapes of official variables: of whole graphs, and of single convolutions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

FOLDER = Path(__file__).parents[1] / "oracles" / "tensorflow"


def official_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the variables of a graph that the official code built."""
    return {
        variable: tuple(shape) for variable, shape in json.loads((FOLDER / f"{name}.json").read_text())["variables"]
    }


def zeros(shapes: Mapping[str, Sequence[int]]) -> dict[str, ArrayLike]:
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def conv(scope: str, kernel: int, cin: int, cout: int) -> dict[str, tuple[int, ...]]:
    norms = {f"{scope}/BatchNorm/{leaf}": (cout,) for leaf in ("gamma", "beta", "moving_mean", "moving_variance")}
    return {f"{scope}/weights": (kernel, kernel, cin, cout), **norms}


def separable(scope: str, cin: int, cout: int) -> dict[str, tuple[int, ...]]:
    depthwise = conv(f"{scope}_depthwise", 3, 1, cin)
    weights = depthwise.pop(f"{scope}_depthwise/weights")
    assert weights == (3, 3, 1, cin)
    return {
        f"{scope}_depthwise/depthwise_weights": (3, 3, cin, 1),
        **depthwise,
        **conv(f"{scope}_pointwise", 1, cin, cout),
    }
