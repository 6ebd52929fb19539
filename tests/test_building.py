"""Configs become objects of atrous, and nothing else."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atrous.building import build, build_datasets, build_transforms, check_targets
from atrous.data import Shapes
from atrous.errors import ConfigError, DataError

SHAPES = {"_target_": "atrous.data.Shapes", "split": "val", "size": 33, "length": 2}


def test_a_node_becomes_the_object_it_names() -> None:
    shapes = build(SHAPES, where="data.val")
    assert isinstance(shapes, Shapes)
    assert len(shapes) == 2


def test_further_arguments_join_those_of_the_node() -> None:
    shapes = build({"_target_": "atrous.data.Shapes", "split": "val", "size": 65}, where="data.val", length=5)
    assert (len(shapes), shapes.uniform_size) == (5, (65, 65))


def test_arguments_are_plain_lists_and_dicts() -> None:
    plan = build({"_target_": "atrous.networks.UnitPlan", "stride": [1, 2], "rate": 1, "rate_after": 1}, where="plan")
    assert type(plan.stride) is list


@pytest.mark.parametrize("target", ["os.system", "torch.load", "atrousx.Thing", "builtins.eval"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_targets_outside_of_atrous_are_refused_at_any_depth(target: str, depth: int) -> None:
    node: dict[str, object] = {"_target_": target}
    for _ in range(depth):
        node = {"_target_": "atrous.data.Shapes", "inner": [node]}
    with pytest.raises(ConfigError, match=target):
        build(node, where="data.train")
    with pytest.raises(ConfigError, match=r"data\.train"):
        check_targets(OrderedDict(node), where="data.train")


def test_an_argument_that_does_not_exist_is_named_with_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^data\.val: .*colour"):
        build({**SHAPES, "colour": "red"}, where="data.val")


def test_a_class_that_does_not_exist_is_named_with_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^data\.val\._target_='atrous\.data\.Circles': only .* data sets"):
        build({"_target_": "atrous.data.Circles"}, where="data.val")


def test_what_a_constructor_refuses_stays_its_own_error() -> None:
    with pytest.raises((ConfigError, DataError), match="split"):
        build({**SHAPES, "split": "holidays"}, where="data.val")


@pytest.mark.parametrize("name", ["VOC2012", "CamVid", "Cityscapes", "CocoVoc", "Folder"])
@pytest.mark.parametrize("limit", [-1, 0, 1.5, True, "2"])
def test_a_limit_that_is_no_number_of_images_is_refused_with_its_key_before_anything_is_read(
    name: str, limit: object
) -> None:
    node = {"_target_": f"atrous.data.{name}", "root": "nowhere", "split": "train", "limit": limit}
    node |= {"classes": ["a", "b"]} if name == "Folder" else {}
    with pytest.raises(ConfigError, match=rf"^data\.train\.limit={limit!r}: null for all images, or a whole number"):
        build(node, where="data.train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, r"^data\.val\.split='dev': shapes has the splits train, val, test"),
        ({"size": 32}, r"^data\.val\.size=32: shapes needs images of at least 33 pixels"),
        ({"length": 0}, r"^data\.val\.length=0: the val split of shapes is empty"),
        ({"seed": -1}, r"^data\.val\.seed=-1: .*at least 0"),
    ],
)
def test_what_shapes_refuses_is_named_by_its_key(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({**SHAPES, **change}, where="data.val")


def data_of(**changes: Any) -> dict[str, Any]:
    train, val = {**SHAPES, "split": "train", "length": 7}, SHAPES
    bootstrap = {"classes": [], "factor": 2}
    return {"train": train, "val": val, "bootstrap": bootstrap, "allow_shared_samples": False, "cache": None, **changes}


def test_data_sets_are_opened_without_reading_pixels() -> None:
    train, val = build_datasets(data_of())
    assert (len(train), len(val)) == (7, 2)


def test_an_unknown_argument_of_a_data_set_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.train.*colour"):
        build_datasets(data_of(train={**SHAPES, "colour": "red"}))


def test_training_on_the_images_of_the_evaluation_needs_a_key() -> None:
    with pytest.raises(DataError, match=r"share 2 images \(val_000000, val_000001\).*allow_shared_samples=true"):
        build_datasets(data_of(train=SHAPES))
    train, val = build_datasets(data_of(train=SHAPES, allow_shared_samples=True))
    assert len(train) == len(val)


def test_bootstrapping_repeats_the_hard_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plain, _ = build_datasets(data_of())
    train, _ = build_datasets(data_of(bootstrap={"classes": ["pole", "ring"], "factor": 3}))
    hard = [any(c in np.unique(plain.read(i)[1]) for c in (7, 8)) for i in range(len(plain))]
    assert len(train) == len(plain) + 2 * sum(hard)
    with pytest.raises(ConfigError, match="bicycle"):
        build_datasets(data_of(bootstrap={"classes": ["bicycle"], "factor": 2}))


def test_a_split_without_masks_is_refused(tmp_path: Path) -> None:
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    images = tmp_path / "VOCdevkit/VOC2012/JPEGImages"
    lists.mkdir(parents=True)
    images.mkdir()
    (lists / "test.txt").write_text("a\n")
    (images / "a.jpg").write_bytes(b"")
    test = {"_target_": "atrous.data.VOC2012", "root": str(tmp_path), "split": "test"}
    with pytest.raises(DataError, match=r"data\.val has no masks"):
        build_datasets(data_of(val=test))


def test_pixels_come_from_the_cache_where_there_is_one(tmp_path: Path) -> None:
    plain, _ = build_datasets(data_of(cache=None))
    unread, _ = build_datasets(data_of(cache=str(tmp_path / "cache")))
    assert not (tmp_path / "cache").exists(), "checking a config fills no cache"
    cached, _ = build_datasets(data_of(cache=str(tmp_path / "cache")), cached=True)
    assert any((tmp_path / "cache").rglob("*"))
    for index in range(len(plain)):
        for ours, wanted in zip(cached.read(index), plain.read(index), strict=True):
            np.testing.assert_array_equal(ours, wanted)
    assert len(unread) == len(cached)


def test_transforms_are_albumentations_and_nothing_else() -> None:
    (jitter,) = build_transforms(
        [{"_target_": "albumentations.ColorJitter", "p": 0.25}], where="transforms", ignore_label=255
    )
    assert (type(jitter).__name__, jitter.p) == ("ColorJitter", 0.25)
    for target in ("os.system", "albumentations.load", "albumentations.core.serialization.load", "atrous.data.Shapes"):
        with pytest.raises(ConfigError, match=r"transforms\[0\]._target_"):
            build_transforms([{"_target_": target}], where="transforms", ignore_label=255)
    with pytest.raises(ConfigError, match="brightnes"):
        build_transforms(
            [{"_target_": "albumentations.ColorJitter", "brightnes": 0.5}], where="transforms", ignore_label=255
        )


def labels_after(node: dict[str, Any], *, ignore_label: int) -> set[int]:
    """The labels of a mask of class 3 after a transform."""
    (transform,) = build_transforms([node], where="transforms", ignore_label=ignore_label)
    transform.set_random_seed(0)
    image, mask = np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 3, np.uint8)
    return set(np.unique(transform(image=image, mask=mask)["mask"]).tolist())


ROTATE = {"_target_": "albumentations.Rotate", "limit": [40, 40], "p": 1}


@pytest.mark.parametrize(
    "node",
    [
        ROTATE,
        {"_target_": "albumentations.Affine", "translate_px": 9, "p": 1},
        {"_target_": "albumentations.Perspective", "scale": [0.2, 0.2], "fit_output": True, "p": 1},
        {"_target_": "albumentations.OneOf", "transforms": [ROTATE], "p": 1},
        {
            "_target_": "albumentations.Sequential",
            "transforms": [{"_target_": "albumentations.SomeOf", "transforms": [ROTATE], "n": 1, "p": 1}],
            "p": 1,
        },
    ],
    ids=lambda node: node["_target_"],
)
def test_what_a_transform_pads_is_ignored_and_no_class(node: dict[str, Any]) -> None:
    assert labels_after(node, ignore_label=200) == {3, 200}


def test_a_padding_that_the_config_gives_and_labels_that_a_dropout_keeps_stay() -> None:
    assert labels_after({**ROTATE, "fill_mask": 7}, ignore_label=255) == {3, 7}
    assert labels_after({**ROTATE, "fill_mask": 0}, ignore_label=255) == {0, 3}
    assert labels_after({"_target_": "albumentations.CoarseDropout", "p": 1}, ignore_label=255) == {3}


def test_interpolated_masks_are_refused() -> None:
    nested = {"_target_": "albumentations.OneOf", "transforms": [{**ROTATE, "mask_interpolation": 1}]}
    with pytest.raises(ConfigError, match=r"^t\[0\]\.transforms\[0\]\.mask_interpolation=1: labels cannot be blended"):
        build_transforms([nested], where="t", ignore_label=255)
    assert labels_after({**ROTATE, "mask_interpolation": 0}, ignore_label=255) == {3, 255}
