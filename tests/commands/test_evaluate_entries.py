"""An entry of results.json is trusted only where it is of the images and the weights that are asked for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from atrous.commands import evaluate
from atrous.commands.evaluate_entries import is_missing
from atrous.commands.evaluate_subject import RELEASED, Subject
from atrous.errors import ConfigError, StoreError
from atrous.evaluation.protocol import protocol_names
from atrous.evaluation.records import ImageRecord, ImageRecords
from atrous.run_store import RunFolder

_COMMAND = OmegaConf.create({"overwrite": False, "boundary": False, "page": False, "compare": None})


def _images(root: Path, *, sides: tuple[int, ...] = (40, 50), seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for kind in ("images", "masks"):
        (root / kind / "val").mkdir(parents=True)
    for number, side in enumerate(sides):
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / "val" / f"{number}.png")
        Image.fromarray(pixels[:, :, 0] % 2).save(root / "masks" / "val" / f"{number}.png")
    return root


def _subject(folder: Path, root: Path, *, source: str | None = None, released: bool = False, **val: Any) -> Subject:
    folder.mkdir(exist_ok=True)
    node = {"_target_": "atrous.data.Folder", "root": str(root), "split": "val", "classes": ["a", "b"], **val}
    return Subject(
        name="mobilenetv2_coco_voc_trainaug" if released else "run/seed0",
        folder=RunFolder(folder),
        config={"data": {"val": node, "evaluation_size": None}},
        checkpoint=RELEASED if released else "last",
        source=source,
    )


def _measured(subject: Subject, *, with_facts: bool = True) -> Subject:
    """The entry `single` of all its images, without records where there are facts."""
    entry: dict[str, Any] = {"miou": 0.5, "images": len(subject.dataset)}
    if with_facts:
        entry["scored"] = subject.scored
    else:
        images = [
            ImageRecord(index=i, sample_id=subject.dataset.sample_id(i), matrix=np.eye(2, dtype=np.int64))
            for i in range(len(subject.dataset))
        ]
        records = ImageRecords.collect(images, num_classes=2)
        records.save(subject.folder.records_file("single"))
    subject.folder.add_results(evaluations={"single": entry})
    return subject


@pytest.mark.parametrize("with_facts", [True, False])
def test_a_copy_of_the_same_images_elsewhere_has_the_same_entry(tmp_path: Path, with_facts: bool) -> None:
    _measured(_subject(tmp_path / "run", _images(tmp_path / "a")), with_facts=with_facts)
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    assert not is_missing(_subject(tmp_path / "run", tmp_path / "b"), _COMMAND, "single")


@pytest.mark.parametrize(
    ("root", "val", "words"),
    [
        ("b", {}, r"is of data\.val\.root='.*/a', but asked for is data\.val\.root='.*/b'"),
        ("a", {"limit": 1}, r"is of data\.val\.limit=None, but asked for is data\.val\.limit=1"),
        ("a", {"classes": ["a", "c"]}, r"is of data\.val\.classes='\w{16}', but"),
    ],
)
def test_other_images_or_classes_of_the_same_names_are_refused_with_what_to_do(
    tmp_path: Path, root: str, val: dict[str, Any], words: str
) -> None:
    _measured(_subject(tmp_path / "run", _images(tmp_path / "a")))
    _images(tmp_path / "b", seed=1, sides=(41, 50))
    asked = _subject(tmp_path / "run", tmp_path / root, **val)
    with pytest.raises(StoreError, match=rf"single {words}.*: overwrite=true replaces it, tag=NAME"):
        is_missing(asked, _COMMAND, "single")
    assert is_missing(asked, OmegaConf.create({**_COMMAND, "overwrite": True}), "single")
    assert is_missing(asked, _COMMAND, "single@tag")


def test_what_was_asked_for_before_is_there_without_a_look_at_the_images(tmp_path: Path) -> None:
    _measured(_subject(tmp_path / "run", _images(tmp_path / "a")))
    shutil.rmtree(tmp_path / "a")
    assert not is_missing(_subject(tmp_path / "run", tmp_path / "a"), _COMMAND, "single")


@pytest.mark.parametrize("sides", [(40,), (40, 50, 60)])
def test_of_an_earlier_entry_the_number_of_images_tells(tmp_path: Path, sides: tuple[int, ...]) -> None:
    _measured(_subject(tmp_path / "run", _images(tmp_path / "a")), with_facts=False)
    with pytest.raises(StoreError, match=rf"is of 2 images, but asked for are {len(sides)}"):
        is_missing(_subject(tmp_path / "run", _images(tmp_path / "b", sides=sides)), _COMMAND, "single")


def test_of_an_earlier_entry_the_names_of_the_images_tell(tmp_path: Path) -> None:
    _measured(_subject(tmp_path / "run", _images(tmp_path / "a")), with_facts=False)
    _images(tmp_path / "b")
    for kind in ("images", "masks"):
        (tmp_path / "b" / kind / "val" / "0.png").rename(tmp_path / "b" / kind / "val" / "zero.png")
    with pytest.raises(StoreError, match="is of 2 images of other names"):
        is_missing(_subject(tmp_path / "run", tmp_path / "b"), _COMMAND, "single")


def test_an_earlier_entry_of_the_runs_own_images_needs_no_look(tmp_path: Path) -> None:
    _measured(_subject(tmp_path / "run", _images(tmp_path / "a")), with_facts=False)
    shutil.rmtree(tmp_path / "a")
    as_trained = _subject(tmp_path / "run", tmp_path / "a")
    as_trained.is_as_trained = True
    assert not is_missing(as_trained, _COMMAND, "single")


def test_other_weights_of_the_same_name_are_refused(tmp_path: Path) -> None:
    root = _images(tmp_path / "a")
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
    first = _measured(_subject(tmp_path / "run", root, released=True, source=str(tmp_path / "first")))
    assert not is_missing(first, _COMMAND, "single")
    with pytest.raises(StoreError, match=r"single is of weights='\w{16}', but asked for is weights='\w{16}'"):
        is_missing(_subject(tmp_path / "run", root, released=True, source=str(tmp_path / "second")), _COMMAND, "single")
    with pytest.raises(StoreError, match="but asked for is weights='published'"):
        is_missing(_subject(tmp_path / "run", root, released=True), _COMMAND, "single")
    with pytest.raises(ConfigError, match="source='nowhere' cannot be read"):
        is_missing(_subject(tmp_path / "run", root, released=True, source="nowhere"), _COMMAND, "single")


@pytest.mark.parametrize("suffix", ["@a/../b", "@val/", "@../..", f"@{'x' * 300}", "@a\nb"])
def test_an_entry_that_cannot_be_a_folder_is_refused_before_anything_is_measured(tmp_path: Path, suffix: str) -> None:
    subject = _subject(tmp_path / "run", tmp_path / "a")
    subject.suffix = suffix
    with pytest.raises(ConfigError, match=r"the entry of results\.json, and its folder, would be 'single@"):
        evaluate._check_entries([subject], ["single"])


@pytest.mark.parametrize("suffix", ["", "@best@voc2012@train+val@of.May-1", "@my/own@fold 1/val", "@../val"])
def test_an_entry_of_any_other_data_split_and_tag_is_measured(tmp_path: Path, suffix: str) -> None:
    subject = _subject(tmp_path / "run", tmp_path / "a")
    subject.suffix = suffix
    evaluate._check_entries([subject], protocol_names())
    subject.folder.add_results(evaluations={subject.entry(name): {"miou": 0.5} for name in protocol_names()})
    assert len(subject.folder.results()["evaluations"]) == len(protocol_names())
