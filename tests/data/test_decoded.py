"""The decoded cache: the same bytes as the source, and never anything half-written, stale or damaged in their place."""

import errno
import fcntl
import multiprocessing
import os
import pickle
import shutil
import signal
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.data import Decoded, decoded_build
from atrous.data.augmentation import CropConfig
from atrous.data.dataset import SegmentationDataset
from atrous.data.files import Pixels
from atrous.data.loading import Loader, TrainSamples, train_loader
from atrous.data.sampling import KeyedBatchSampler
from atrous.data.shapes import Shapes
from atrous.data.voc import VOC2012
from atrous.errors import DataError

Scene = Callable[[int, int, int], tuple[Pixels, Pixels]]


@pytest.fixture
def source(voc_home: Path, scene: Scene, save_mask: Callable[[Path, Pixels], None]) -> VOC2012:
    """Five images, of which one has another size than the others."""
    image, mask = scene(9, 31, 77)
    Image.fromarray(image).save(voc_home / "JPEGImages" / "c.jpg")
    save_mask(voc_home / "SegmentationClass" / "c.png", mask)
    return VOC2012(root=voc_home, split="train")


def assert_same_pixels(first: SegmentationDataset, second: SegmentationDataset) -> None:
    assert len(first) == len(second)
    for index in range(len(first)):
        assert first.sample_id(index) == second.sample_id(index)
        for mine, theirs in zip(first.read(index), second.read(index), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def decoded_before(dataset: SegmentationDataset, *, folder: Path) -> Decoded:
    """Open what is decoded; nothing is there that could decode it again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("atrous.data.decoded.build")
        return Decoded(dataset, folder=folder)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def pixels_of(folder: Path) -> Path:
    (path,) = folder.glob("pixels-*")
    return path


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_pixels_are_the_sources_for_images_of_any_size(source: VOC2012, tmp_path: Path, num_workers: int) -> None:
    decoded = Decoded(source, folder=tmp_path / "cache", num_workers=num_workers)
    assert isinstance(decoded, SegmentationDataset)
    assert_same_pixels(decoded, source)
    assert decoded.spec == source.spec
    assert decoded.uniform_size is None
    assert names(tmp_path / "cache") == [decoded.folder.name]


def test_as_many_processes_decode_as_there_are_cores_for_this_one(
    source: VOC2012, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def loader(*arguments: Any, num_workers: int, **options: Any) -> Loader:
        asked.append(num_workers)
        return Loader(*arguments, num_workers=0, **options)

    monkeypatch.setattr(decoded_build, "Loader", loader)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    Decoded(source, folder=tmp_path / "c")
    assert asked == [2, 2]


def test_a_second_use_decodes_nothing(source: VOC2012, tmp_path: Path) -> None:
    written = pixels_of(Decoded(source, folder=tmp_path, num_workers=0).folder)
    before = written.stat()
    again = decoded_before(source, folder=tmp_path)
    assert (written.stat().st_ino, written.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert_same_pixels(again, source)


def test_splits_share_a_folder_without_sharing_pixels(source: VOC2012, voc_home: Path, tmp_path: Path) -> None:
    val = VOC2012(root=voc_home, split="val")
    train, other = (Decoded(dataset, folder=tmp_path / "c", num_workers=0) for dataset in (source, val))
    assert train.folder != other.folder
    assert_same_pixels(train, source)
    assert_same_pixels(other, val)


def test_a_data_set_that_is_no_list_of_files_is_decoded_too(tmp_path: Path) -> None:
    scenes = Shapes(split="val", size=33, length=3)
    decoded = Decoded(scenes, folder=tmp_path, num_workers=0)
    assert_same_pixels(decoded, scenes)
    assert decoded.uniform_size == (33, 33)


def test_sets_whose_images_have_the_same_names_share_a_folder_without_sharing_pixels(tmp_path: Path) -> None:
    sets = [Shapes(split="val", size=size, length=3, seed=seed) for size, seed in ((33, 0), (33, 1), (65, 0))]
    decoded = [Decoded(scenes, folder=tmp_path, num_workers=0) for scenes in sets]
    assert len({each.folder for each in decoded}) == 3
    for each, scenes in zip(decoded, sets, strict=True):
        assert_same_pixels(each, scenes)
        assert_same_pixels(pickle.loads(pickle.dumps(each)), scenes)  # noqa: S301


def test_a_folder_that_another_process_replaces_is_never_read_with_the_old_places(
    source: VOC2012, tmp_path: Path, scene: Scene
) -> None:
    first = Decoded(source, folder=tmp_path, num_workers=0)
    before = [tuple(array.copy() for array in source.read(index)) for index in range(len(source))]
    sent = pickle.dumps(first)
    Image.fromarray(scene(77, 40, 56)[0]).save(source.pairs[1].image, quality=95)
    second = Decoded(source, folder=tmp_path, num_workers=0)
    assert second.folder == first.folder
    for index, expected in enumerate(before):
        for mine, theirs in zip(first.read(index), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert_same_pixels(second, source)
    with pytest.raises(DataError, match=r"of 'voc2012' were replaced or removed while they were in use.*data\.cache$"):
        pickle.loads(sent).read(0)  # noqa: S301


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_augmented_batches_are_identical_with_and_without_the_cache_for_any_number_of_workers(
    source: VOC2012, tmp_path: Path, num_workers: int
) -> None:
    def batches(dataset: SegmentationDataset, workers: int) -> list[dict[str, torch.Tensor]]:
        samples = TrainSamples(dataset=dataset, augmentation=CropConfig(crop_size=(33, 49)), seed=3)
        sampler = KeyedBatchSampler(length=len(dataset), batch_size=4, max_steps=5, seed=3)
        loader = train_loader(samples, sampler, num_workers=workers, pin_memory=False)
        return [{key: value.clone() for key, value in dict[str, Any](batch).items()} for batch in loader]

    plain = batches(source, 0)
    cached = batches(Decoded(source, folder=tmp_path, num_workers=0), num_workers)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(plain, cached, strict=True) for key in a)


def test_a_changed_source_file_is_decoded_again_and_told(
    source: VOC2012, tmp_path: Path, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    Decoded(source, folder=tmp_path, num_workers=0)
    Image.fromarray(scene(77, 40, 56)[0]).save(source.pairs[1].image, quality=95)
    assert_same_pixels(Decoded(source, folder=tmp_path, num_workers=0), source)
    assert "decoding 'voc2012' again: a source file of 'b' has changed since" in caplog.text
    decoded_before(source, folder=tmp_path)


def damage_length(folder: Path) -> None:
    with pixels_of(folder).open("r+b") as file:
        file.truncate(100)


def damage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text().replace('"offsets": [0', '"offsets": [4')
    )


def damage_version(folder: Path) -> None:
    (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text().replace('"version": 3', '"version": 1')
    )


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def lose_pixels(folder: Path) -> None:
    pixels_of(folder).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_length, "has 100 bytes instead of"),
        (damage_manifest, "has been changed or damaged"),
        (damage_version, "has version 1, this program writes 3"),
        (lose_manifest, "is missing or damaged"),
        (lose_pixels, "is missing or cannot be read"),
    ],
)
def test_what_is_damaged_is_never_taken_for_whole(
    source: VOC2012,
    tmp_path: Path,
    damage: Callable[[Path], None],
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(Decoded(source, folder=tmp_path, num_workers=0).folder)
    assert_same_pixels(Decoded(source, folder=tmp_path, num_workers=0), source)
    assert message in caplog.text


def test_too_little_room_is_an_error_before_anything_is_written(
    source: VOC2012, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(DataError, match=r"'voc2012' need 0\.00 GB, but '.*' has only 0\.00 GB free; make room"):
        Decoded(source, folder=tmp_path / "c", num_workers=0)
    assert names(tmp_path / "c") == []


def test_what_a_killed_process_left_takes_no_room_from_the_next(
    source: VOC2012, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "c"
    name = Decoded(source, folder=cache, num_workers=0).folder.name
    (cache / name / "manifest.json").unlink()
    left = [cache / f".{name}.{end}" / "large" for end in ("building", "old")]
    for path in left:
        path.parent.mkdir()
        path.touch()
    usage = namedtuple("usage", "total used free")
    free = lambda path: usage(10**9, 0, 0 if any(path.exists() for path in left) else 10**9)  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", free)
    assert_same_pixels(Decoded(source, folder=cache, num_workers=0), source)
    assert names(cache) == [name]


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fsync"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_disk_that_fills_up_is_an_error_that_leaves_nothing_behind(
    source: VOC2012, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, num_workers: int
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(DataError, match=r"cannot be written to '.*' \(No space left on device\); the disk is full"):
        Decoded(source, folder=tmp_path / "c", num_workers=num_workers)
    assert names(tmp_path / "c") == []


def test_a_bad_source_file_is_an_error_that_names_it_and_leaves_nothing_behind(source: VOC2012, tmp_path: Path) -> None:
    path = Path(source.pairs[3].image)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"^image '.*d\.jpg' is truncated or corrupt.*copy it again$"):
        Decoded(source, folder=tmp_path / "c", num_workers=2)
    assert not multiprocessing.active_children(), "workers that an error's traceback keeps"
    assert names(tmp_path / "c") == []


class Slow(VOC2012):
    """A data set that takes its time, and leaves a byte for each time that an image is read."""

    seconds = 0.2

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        with Path(self.pairs[index].image).with_suffix(".read").open("ab") as stream:
            stream.write(b".")
        time.sleep(self.seconds)
        return super().read(index)


def test_a_killed_process_leaves_nothing_that_is_taken_for_whole(
    voc_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(root=voc_home, split="train")
    process = multiprocessing.get_context("fork").Process(
        target=Decoded, args=(slow,), kwargs={"folder": tmp_path, "num_workers": 0}
    )
    with monkeypatch.context() as forked:
        forked.setattr(Slow, "seconds", 60.0)  # it does not come to an end
        process.start()
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".*.building/pixels")):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list(tmp_path.glob(".*.building"))
    assert_same_pixels(Decoded(slow, folder=tmp_path, num_workers=2), slow)
    assert not list(tmp_path.glob(".*.building"))


def test_of_two_processes_one_decodes_and_the_other_waits(voc_home: Path, tmp_path: Path) -> None:
    slow = Slow(root=voc_home, split="val")
    context = multiprocessing.get_context("fork")
    others = [
        context.Process(target=Decoded, args=(slow,), kwargs={"folder": tmp_path, "num_workers": 0}) for _ in range(2)
    ]
    for process in others:
        process.start()
    for process in others:
        process.join()
    assert [process.exitcode for process in others] == [0, 0]
    _, middle, _ = (Path(pair.image).with_suffix(".read").read_bytes() for pair in slow.pairs)
    assert middle == b".", "who opens what is decoded looks at the first and the last image only"
    assert_same_pixels(decoded_before(slow, folder=tmp_path), slow)


def test_it_travels_to_spawned_workers_without_its_pixels(source: VOC2012, tmp_path: Path) -> None:
    decoded = Decoded(source, folder=tmp_path, num_workers=0)
    decoded.read(0)
    sent = pickle.dumps(decoded)
    assert len(sent) < 4000 + len(pickle.dumps(source))
    assert_same_pixels(pickle.loads(sent), source)  # noqa: S301


def test_a_folder_that_cannot_be_written_is_an_error_that_names_the_key(source: VOC2012, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file cannot be written .*; give another folder as data\.cache"):
        Decoded(source, folder=tmp_path / "file")


def test_a_file_system_without_locks_is_an_error_that_names_the_key(
    source: VOC2012, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(DataError, match=r"cannot be locked \(No locks available\); data\.cache needs .* with flock$"):
        Decoded(source, folder=tmp_path / "c")


def test_views_are_read_only_so_that_no_crop_can_change_them(source: VOC2012, tmp_path: Path) -> None:
    image, label = Decoded(source, folder=tmp_path, num_workers=0).read(0)
    assert not image.flags.writeable
    assert not label.flags.writeable
