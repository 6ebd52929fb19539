"""The procedural scenes: the same in every version, one terrain each, buoys that only the sky tells apart."""

import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.data.shapes import Shapes
from atrous.errors import ArgumentError

CLASSES = {name: label for label, name in enumerate(Shapes(split="val", length=1).spec.classes)}
TERRAINS = {CLASSES[name] for name in ("sand", "grass", "sea")}


def _present(label: NDArray[np.uint8]) -> set[int]:
    return set(np.unique(label).tolist())


@pytest.mark.parametrize(
    ("split", "index", "pixels", "colour"),
    [
        ("train", 0, [2443, 0, 0, 859, 373, 26, 10, 0, 442, 72, 0], [152.84, 161.06, 138.01]),
        ("val", 3, [0, 2426, 0, 1387, 0, 0, 14, 68, 86, 244, 0], [114.28, 146.73, 115.17]),
    ],
)
def test_a_scene_is_the_one_that_every_version_has_drawn(
    split: str, index: int, pixels: list[int], colour: list[float]
) -> None:
    image, label = Shapes(split=split, length=4, size=65).read(index)
    assert np.bincount(label.ravel(), minlength=11) == pytest.approx(pixels, abs=3)  # exp is a digit off here and there
    assert image.mean((0, 1)) == pytest.approx(colour, abs=0.5)


def test_a_scene_depends_on_seed_split_and_index_alone_and_no_two_are_alike() -> None:
    scenes = [
        Shapes(split=split, size=33, length=3, seed=seed).read(index)
        for split in ("train", "val", "test")
        for seed in (0, 1)
        for index in range(3)
    ]
    assert len({image.tobytes() for image, _ in scenes}) == len(scenes)
    for found, again in zip(Shapes(split="train", size=33, length=9).read(2), scenes[2], strict=True):
        np.testing.assert_array_equal(found, again)


def test_every_class_occurs_each_scene_has_one_terrain_and_no_scene_buoys_of_day_and_night() -> None:
    scenes = [_present(Shapes(split="train", size=65, length=60).read(index)[1]) for index in range(60)]
    assert set().union(*scenes) == set(CLASSES.values())
    assert all(len(present & TERRAINS) == 1 for present in scenes)
    assert not any({CLASSES["day_buoy"], CLASSES["night_buoy"]} <= present for present in scenes)


def test_scenes_have_names_of_their_own_and_none_lies_outside() -> None:
    scenes = Shapes(split="val", size=33, length=3)
    assert [scenes.sample_id(index) for index in range(len(scenes))] == ["val_000000", "val_000001", "val_000002"]
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"scene {index} of 3"):
            scenes.read(index)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "trainval"}, "split='trainval': shapes has the splits train, val, test"),
        ({"size": 32}, "size=32: shapes needs images of at least 33 pixels"),
        ({"length": 0}, "length=0: the val split of shapes is empty"),
        ({"seed": -1}, "seed=-1: a seed of shapes is a whole number"),
    ],
)
def test_impossible_scenes_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Shapes(**{"split": "val", **arguments})  # type: ignore[arg-type]
