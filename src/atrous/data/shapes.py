"""`shapes`: a procedural data set that needs no download and in which the papers' effects can be seen.

Each scene has a horizon with sky above and one terrain (sand, grass or sea) below, which even a map of one cell can
name; on it are objects of all sizes:

* discs, squares and triangles from 6 pixels to most of the image, told apart by outline and, loosely, by hue: large
  ones survive a coarse output stride, small ones do not (DeepLabv3, Table 1);
* rings, whose holes show what lies behind, and poles of 1 to 3 pixels: thin structures that need the decoder's
  low-level features (DeepLabv3+, Table 1);
* day buoys and night buoys, which look the same: only the colour of the sky, far away, says which is which, so that
  context decides (image pooling and large atrous rates; DeepLabv3, Table 5).

A scene is a pure function of (seed, split, index).
"""

import colorsys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.data.spec import DatasetSpec
from atrous.errors import ArgumentError

Image = NDArray[np.uint8]

SHAPES_SPEC = DatasetSpec(
    name="shapes",
    classes=(
        "sand",
        "grass",
        "sea",
        "sky",
        "disc",
        "square",
        "triangle",
        "ring",
        "pole",
        "day_buoy",
        "night_buoy",
    ),
    palette=(
        (194, 170, 120),
        (96, 128, 56),
        (44, 84, 130),
        (110, 170, 230),
        (214, 62, 62),
        (60, 200, 90),
        (150, 80, 190),
        (240, 140, 40),
        (40, 200, 200),
        (250, 220, 60),
        (40, 50, 120),
    ),
)
_SPLITS = {"train": 0, "val": 1, "test": 2}
_HUES = {"disc": 0.0, "square": 0.36, "triangle": 0.82, "ring": 0.07, "pole": 0.5, "day_buoy": 0.15, "night_buoy": 0.15}
_TERRAINS = {"sand": (178, 152, 108), "grass": (84, 110, 52), "sea": (48, 84, 128)}


class Shapes:
    """Procedural scenes with exact labels.

    Args:
        split: `train`, `val` or `test`; no two of them share a scene.
        size: side of the square image in pixels, at least 33.
        length: number of scenes.
        seed: seed of the whole data set, apart from the training's own seed.

    Raises:
        ConfigError: for an unknown split, an image too small, an empty split or a negative seed.
    """

    def __init__(self, *, split: str, size: int = 129, length: int = 2000, seed: int = 0) -> None:
        if split not in _SPLITS:
            raise ArgumentError(f"split={split!r}: shapes has the splits {', '.join(_SPLITS)}")
        if size < 33:
            raise ArgumentError(f"size={size}: shapes needs images of at least 33 pixels, e.g. 129")
        if length < 1:
            raise ArgumentError(f"length={length}: the {split} split of shapes is empty; ask for at least 1 scene")
        if seed < 0:
            raise ArgumentError(f"seed={seed}: a seed of shapes is a whole number of at least 0")
        self.spec = SHAPES_SPEC
        self.uniform_size = (size, size)
        self._split, self._size, self._length, self._seed = split, size, length, seed

    def __len__(self) -> int:
        """Number of scenes."""
        return self._length

    def sample_id(self, index: int) -> str:
        """A name for scene `index`, unique over all splits."""
        return f"{self._split}_{index:06d}"

    def read(self, index: int) -> tuple[Image, Image]:
        """Scene `index` as an RGB image [size, size, 3] and its label [size, size], both uint8."""
        if not 0 <= index < self._length:
            raise IndexError(f"scene {index} of {self._length}")
        keys = np.random.SeedSequence([self._seed, _SPLITS[self._split], index])
        return _Scene(np.random.Generator(np.random.PCG64(keys)), self._size).paint()


class _Scene:
    """One scene while it is painted, far things first; image and label are drawn by the same strokes."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self._rng, self._size = rng, size
        self._label = np.zeros((size, size), np.uint8)
        self._image = np.zeros((size, size, 3), np.float32)
        self._is_night = bool(rng.random() < 0.5)

    def paint(self) -> tuple[Image, Image]:
        self._paint_terrain_and_sky()
        solids = (self._disc, self._square, self._triangle, self._ring)
        if self._rng.random() < 0.6:
            solids[self._rng.integers(4)](self._rng.uniform(0.5, 1.0) * self._size)
        for _ in range(self._rng.integers(2, 6)):
            solids[self._rng.integers(4)](self._log_uniform(6 / 129, 0.4) * self._size)
        for _ in range(self._rng.integers(1, 4)):
            self._buoy(self._log_uniform(0.08, 0.35) * self._size)
        for _ in range(self._rng.integers(1, 4)):
            self._pole()
        image = np.asarray(cv2.GaussianBlur(self._image, (3, 3), 0.6), np.float32)
        image += self._rng.standard_normal(image.shape, dtype=np.float32) * np.float32(6)
        return np.clip(image, 0, 255).astype(np.uint8), self._label

    def _log_uniform(self, low: float, high: float) -> float:
        return float(np.exp(self._rng.uniform(np.log(low), np.log(high))))

    def _paint_terrain_and_sky(self) -> None:
        size, rng = self._size, self._rng
        horizon = int(size * rng.uniform(0.15, 0.45))
        terrain = tuple(_TERRAINS)[rng.integers(len(_TERRAINS))]
        coarse = rng.uniform(-25, 25, (8, 8, 3)).astype(np.float32)
        texture = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        self._image += np.asarray(_TERRAINS[terrain], np.float32) + texture
        self._label[:] = SHAPES_SPEC.classes.index(terrain)
        sky = (25, 20, 60) if self._is_night else (150, 195, 240)
        fade = np.linspace(-12, 12, horizon, dtype=np.float32)[:, None, None]
        self._image[:horizon] = np.asarray(sky, np.float32) + fade
        self._label[:horizon] = SHAPES_SPEC.classes.index("sky")

    def _stroke(self, name: str, draw: Callable[[NDArray[Any], Any], object]) -> None:
        hue = (_HUES[name] + self._rng.normal(0, 0.02)) % 1
        rgb = colorsys.hsv_to_rgb(hue, *self._rng.uniform(0.5, 1.0, 2))
        draw(self._image, tuple(255 * channel for channel in rgb))
        draw(self._label, SHAPES_SPEC.classes.index(name))

    def _centre(self) -> tuple[int, int]:
        return int(self._rng.uniform(0, self._size)), int(self._rng.uniform(0.1, 1) * self._size)

    def _disc(self, diameter: float) -> None:
        centre, radius = self._centre(), max(2, int(diameter / 2))
        self._stroke("disc", lambda canvas, colour: cv2.circle(canvas, centre, radius, colour, cv2.FILLED))

    def _ring(self, diameter: float) -> None:
        centre, radius = self._centre(), max(4, int(diameter / 2))
        width = max(2, int(radius * self._rng.uniform(0.25, 0.45)))
        self._stroke("ring", lambda canvas, colour: cv2.circle(canvas, centre, radius, colour, width))

    def _polygon(self, name: str, corners: int, diameter: float) -> None:
        angles = self._rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
        points = np.stack([np.cos(angles), np.sin(angles)], 1) * max(3.0, diameter / 2) + self._centre()
        outline = [np.rint(points).astype(np.int32)]
        self._stroke(name, lambda canvas, colour: cv2.fillPoly(canvas, outline, colour))

    def _square(self, diameter: float) -> None:
        self._polygon("square", 4, diameter)

    def _triangle(self, diameter: float) -> None:
        self._polygon("triangle", 3, 1.2 * diameter)

    def _buoy(self, diameter: float) -> None:
        (x, y), arm = self._centre(), max(2, int(diameter / 2))
        y, bar = max(y, self._size // 2), max(1, arm // 3)

        def cross(canvas: NDArray[Any], colour: Any) -> None:
            for across, along in ((arm, bar), (bar, arm)):
                cv2.rectangle(canvas, (x - across, y - along), (x + across, y + along), colour, cv2.FILLED)

        self._stroke("night_buoy" if self._is_night else "day_buoy", cross)

    def _pole(self) -> None:
        foot, width = self._centre(), int(self._rng.integers(1, 4))
        length, lean = self._rng.uniform(0.25, 0.8) * self._size, self._rng.normal(0, 0.15)
        top = (int(foot[0] + lean * length), int(foot[1] - length))
        self._stroke("pole", lambda canvas, colour: cv2.line(canvas, foot, top, colour, width))
