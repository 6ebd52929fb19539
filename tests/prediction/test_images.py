"""A folder becomes files: found, predicted in batches, written whole, and nothing that is there is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from atrous.data.files import Pixels, read_image, read_mask
from atrous.errors import ConfigError, DataError
from atrous.evaluation.protocol import Protocol
from atrous.networks.segmenter import Segmenter
from atrous.prediction import Description, Prediction, Predictor
from atrous.prediction.images import predict_images
from atrous.prediction.inputs import SAVES, broken_off, plan
from atrous.prediction.writing import write_prediction


@pytest.fixture(scope="module")
def predictor(network: Segmenter, description: Description) -> Predictor:
    return Predictor(network=network, description=description, precision="float32", device="cpu")


def test_a_folder_is_searched_through_and_its_structure_kept(folder: Path, tmp_path: Path) -> None:
    jobs = plan(str(folder), tmp_path / "out", save=["labels", "json"], overwrite=False)
    assert [job.source.relative_to(folder).as_posix() for job in jobs] == [
        "a.png",
        "b.png",
        "broken.png",
        "c.png",
        "sub/d.jpg",
    ]
    assert jobs[-1].outputs == {
        "labels": tmp_path / "out" / "sub" / "d_labels.png",
        "json": tmp_path / "out" / "sub" / "d.json",
    }
    assert not (tmp_path / "out").exists()


def test_a_file_and_a_glob_are_found(folder: Path, tmp_path: Path) -> None:
    (job,) = plan(str(folder / "a.png"), tmp_path, save=["overlay"], overwrite=False)
    assert job.outputs == {"overlay": tmp_path / "a_overlay.jpg"}
    jobs = plan(str(folder / "**" / "[ad].*"), tmp_path, save=["json"], overwrite=False)
    assert [job.outputs["json"] for job in jobs] == [tmp_path / "a.json", tmp_path / "sub" / "d.json"]


def test_links_to_folders_are_followed_and_not_in_circles(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "e.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "sub" / "up").symlink_to(folder)
    expected = ["a.png", "b.png", "broken.png", "c.png", "linked/e.png", "sub/d.jpg"]
    for given in (folder, folder / "**" / "*.[pj]*g"):
        jobs = plan(str(given), tmp_path / "out", save=["json"], overwrite=False)
        assert [job.source.relative_to(folder).as_posix() for job in jobs] == expected
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    (folder / "all").symlink_to(tmp_path)
    jobs = plan(str(folder), tmp_path / "out", save=["json"], overwrite=False)
    assert [job.source.relative_to(folder).as_posix() for job in jobs] == expected


def test_a_link_that_the_input_itself_names_may_lead_back(folder: Path, tmp_path: Path) -> None:
    (folder / "up").symlink_to(folder)
    expected = ["a.png", "b.png", "broken.png", "c.png", "sub/d.jpg"]
    for given in ("up", "up/**/*.[pj]*g"):
        jobs = plan(str(folder / given), tmp_path / "out", save=["json"], overwrite=False)
        assert [job.source.relative_to(folder / "up").as_posix() for job in jobs] == expected


def test_what_was_predicted_into_a_folder_that_a_link_leads_to_is_no_input(folder: Path, tmp_path: Path) -> None:
    (folder / "predicted").symlink_to(tmp_path / "disk")
    jobs = plan(str(folder), tmp_path / "disk", save=["overlay"], overwrite=False)
    for job in jobs:
        job.outputs["overlay"].parent.mkdir(parents=True, exist_ok=True)
        job.outputs["overlay"].touch()
    for output in (tmp_path / "disk", folder / "predicted"):
        again = plan(str(folder), output, save=["overlay"], overwrite=True)
        assert [job.source for job in again] == [job.source for job in jobs]


def test_a_glob_over_many_links_in_circles_ends(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("x", "y[1]/z", ".hidden"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.png").touch()
    for number in range(12):
        (folder / "x" / f"up{number}").symlink_to(folder)
    (folder / "up").symlink_to(folder)  # which * is not the name of
    expected = ["x/a.png", "y[1]/z/a.png"]
    for glob in ("**/*.png", "**/**/a.png", "*/**/*", "**"):
        jobs = plan(str(folder / glob), tmp_path / "out", save=["json"], overwrite=False)
        assert sorted(job.source.relative_to(folder).as_posix() for job in jobs) == expected, glob


def test_a_link_to_an_image_that_is_not_there_is_named_and_the_others_are_predicted(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    (folder / "away.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (folder / "long.jpg").symlink_to("x" * 300)  # Path.is_file raises, as for one that may not be looked at
    (folder / "long.gif").symlink_to("x" * 300)
    for given in (folder, folder / "*"):
        said: list[str] = []
        jobs = plan(str(given), tmp_path / "out", save=["json"], overwrite=True, say=said.append)
        broken = predict_images(predictor, jobs, protocol=Protocol(), batch_size=2)
        assert set(broken) == {folder / "away.jpg", folder / "broken.png", folder / "long.jpg"}
        assert said == []
        assert "away.jpg' cannot be read (No such file or directory)" in broken[folder / "away.jpg"]
        assert (tmp_path / "out" / "a.json").is_file()


def test_a_tilde_is_the_home_folder_of_input_and_output(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (job,) = plan(f"~/{folder.relative_to(tmp_path)}/a.png", "~/out", save=["json"], overwrite=False)
    assert (job.source, job.outputs["json"]) == (folder / "a.png", tmp_path / "out" / "a.json")
    with pytest.raises(DataError, match="no such image, folder or video"):
        plan("~no_such_user/a.png", tmp_path, save=["json"], overwrite=False)


def test_images_and_videos_of_types_that_are_not_looked_for_are_told_and_other_files_are_not(
    folder: Path, tmp_path: Path
) -> None:
    for name in ("e.txt", ".hidden.avif"):
        (folder / name).touch()
    said: list[str] = []
    for given in (folder, folder / "*", folder / "a.png"):
        plan(str(given), tmp_path / "out", save=["json"], overwrite=False, say=said.append)
    assert said == []
    for name in ("e.avif", "sub/f.JP2", "g.m4v", "h.tga"):
        (folder / name).touch()
    for given in (folder, folder / "*.[ap]*"):
        plan(str(given), tmp_path / "out", save=["json"], overwrite=False, say=said.append)
    assert said[0].startswith(
        f"4 files are left out of input={str(folder)!r}, such as {folder / 'e.avif'}: read are .jpg,"
    )
    assert said[1].startswith("1 file is left out of input=")
    assert len(said) == 2
    with pytest.raises(DataError, match=r"\*\.av\*' matches no images or videos \(\.jpg, .*, \.webm\)"):
        plan(str(folder / "*.av*"), tmp_path, save=["json"], overwrite=False)
    with pytest.raises(DataError, match=r"g\.m4v' is a video of a type that is not read; convert it to one of \.mp4"):
        plan(str(folder / "g.m4v"), tmp_path, save=["json"], overwrite=False)


@pytest.mark.parametrize("below", ["out", "deep/out", "."])
def test_what_was_predicted_into_the_folder_of_the_inputs_is_no_input(folder: Path, below: str) -> None:
    for name in ("drive.mp4", "v1.5.avi"):
        (folder / name).touch()
    saved = ["overlay", "labels"]
    jobs = plan(str(folder), folder / below, save=saved, overwrite=False)
    for job in jobs:
        job.outputs["overlay"].parent.mkdir(parents=True, exist_ok=True)
        job.outputs["overlay"].touch()
        if job.is_video:
            for path in (job.outputs["labels"], broken_off(job.outputs["labels"])):
                path.mkdir()
                (path / "000001.png").touch()
            broken_off(job.outputs["overlay"]).touch()
        else:
            job.outputs["labels"].touch()
    assert len(jobs) == 7
    assert plan(str(folder), folder / below, save=saved, overwrite=True) == jobs
    again = plan(str(folder / "**" / "*"), folder / below, save=["json"], overwrite=True)
    assert [job.source for job in again] == [job.source for job in jobs]


def test_a_folder_of_nothing_but_predictions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_overlay.jpg").touch()
    with pytest.raises(DataError, match=r"holds nothing but what was predicted into output="):
        plan(str(tmp_path), tmp_path / "out", save=["json"], overwrite=True)


def test_pictures_named_as_if_they_were_predicted_are_inputs_where_the_output_is_elsewhere(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "a_labels.png").touch()
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "z.png").touch()
    (folder / "._a.png").touch()
    jobs = plan(str(folder), tmp_path / "out", save=["labels"], overwrite=False)
    assert [job.source.name for job in jobs] == ["a.png", "a_labels.png", "b.png", "broken.png", "c.png", "d.jpg"]


def test_the_others_are_finished_and_the_broken_one_is_named(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    jobs = plan(str(folder), tmp_path / "out", save=SAVES, overwrite=False)
    told: list[tuple[int, int]] = []
    broken = predict_images(
        predictor, jobs, protocol=Protocol(), batch_size=2, on_done=lambda done, total: told.append((done, total))
    )
    assert list(broken) == [folder / "broken.png"]
    assert "truncated or corrupt" in broken[folder / "broken.png"]
    assert told[-1] == (5, 5)
    for job in jobs:
        assert all(path.is_file() == (job.source not in broken) for path in job.outputs.values())


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(tile=(65, 65), overlap=16)])
def test_an_image_larger_than_the_memory_is_named_with_what_to_lower_and_the_others_are_finished(
    network: Segmenter, description: Description, folder: Path, tmp_path: Path, protocol: Protocol
) -> None:
    (folder / "broken.png").unlink()
    predictor = Predictor(network=network, description=description, precision="float32", device="cpu")
    plain, sizes = predictor.predict_batch, []

    def limited(images: list[Pixels], **arguments: Any) -> list[Prediction]:
        sizes.append(len(images))
        if len(images) > 1 or images[0].shape[0] == 100:
            raise RuntimeError("CUDA: not enough memory: 9 bytes. And more. So on")
        return plain(images, **arguments)

    predictor.predict_batch = limited  # type: ignore[method-assign,assignment]
    jobs = plan(str(folder), tmp_path / "out", save=["labels"], overwrite=False)
    told: list[tuple[int, int]] = []
    broken = predict_images(
        predictor, jobs, protocol=protocol, batch_size=2, on_done=lambda done, total: told.append((done, total))
    )
    assert sizes[:3] == [2, 1, 1], "two that do not fit together are predicted alone"
    assert list(broken) == [folder / "c.png"]
    words = "does not fit into the memory (CUDA: not enough memory: 9 bytes. And more); try"
    assert words in broken[folder / "c.png"]
    advice = "protocol=tiles_os16" if protocol.tile is None else "smaller tiles (now 65x65)"
    assert advice in broken[folder / "c.png"]
    assert told[-1] == (4, 4)
    assert [job.outputs["labels"].is_file() for job in jobs] == [True, True, False, True]


def test_an_overlay_that_no_jpeg_holds_is_named_and_the_other_files_are_written(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((1, 65501, 3), np.uint8)
    wide = Prediction(image, image[:, :, 0], predictor.description.spec)
    monkeypatch.setattr(predictor, "predict_batch", lambda images, **_: [wide])
    monkeypatch.setattr(predictor, "padded_size", lambda *_: (17, 65505))
    cv2.imwrite(str(tmp_path / "wide.png"), image)
    (job,) = plan(str(tmp_path / "wide.png"), tmp_path / "out", save=["overlay", "labels", "json"], overwrite=False)
    broken = predict_images(predictor, [job], protocol=Protocol(), batch_size=1)
    assert "wide_overlay.jpg cannot be written: 65501x1 pixels" in broken[job.source]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["wide.json", "wide_labels.png"]


def test_files_say_what_was_predicted(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    (job,) = plan(str(folder / "c.png"), tmp_path, save=SAVES, overwrite=False)
    predict_images(predictor, [job], protocol=Protocol(), batch_size=1)
    expected = predictor.predict(folder / "c.png")
    np.testing.assert_array_equal(read_mask(job.outputs["labels"]), expected.labels)
    with Image.open(job.outputs["labels"]) as mask:
        assert mask.mode == "P"
        assert mask.size == (41, 100)
        assert mask.getpalette()[:33] == [value for colour in expected.palette for value in colour]  # type: ignore[index]
    with np.load(job.outputs["probabilities"]) as arrays:
        assert arrays["probabilities"].dtype == np.float16
        np.testing.assert_array_equal(arrays["probabilities"], expected.probabilities.astype(np.float16))
        assert tuple(arrays["classes"]) == expected.classes
    overlay = cv2.imread(str(job.outputs["overlay"]))
    assert overlay is not None
    assert np.abs(overlay[..., ::-1].astype(int) - expected.overlay()).mean() < 12
    facts = json.loads(job.outputs["json"].read_text())
    assert (facts["height"], facts["width"], facts["shares"]) == (100, 41, expected.shares())


def test_an_image_whose_files_would_have_too_long_names_is_named_and_the_others_are_finished(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    for name in ("a" * 240, "\u00e4" * 120, "c" * 232):  # of bytes a name has 255 at most
        (folder / f"{name}.png").hardlink_to(folder / "a.png")
    (folder / "broken.png").unlink()
    saved = ["overlay", "labels", "probabilities", "json"]
    jobs = plan(str(folder), tmp_path / "out", save=saved, overwrite=False)
    broken = predict_images(predictor, jobs, protocol=Protocol(), batch_size=2)
    long = [job for job in jobs if len(job.source.name) > 100]
    assert sorted(broken) == sorted(job.source for job in long)
    for job in jobs:
        assert job in long or all(path.is_file() for path in job.outputs.values())
    shortest = next(job for job in long if job.source.name.startswith("c"))
    assert [path.name for path in (tmp_path / "out").glob("c*c*")] == [shortest.outputs["json"].name]
    assert re.search(
        r"c_overlay\.jpg cannot be written: its name is too long there \(244 bytes", broken[shortest.source]
    )
    again = plan(str(folder), tmp_path / "out", save=saved, overwrite=False, resume=True)
    assert [job.source for job in again] == [job.source for job in long]


def test_the_files_of_a_photo_on_its_side_show_it_upright(predictor: Predictor, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((41, 100, 3), np.uint8)).save(tmp_path / "photo.jpg", exif=exif)
    (job,) = plan(str(tmp_path / "photo.jpg"), tmp_path / "out", save=["labels", "overlay"], overwrite=False)
    predict_images(predictor, [job], protocol=Protocol(), batch_size=1)
    assert read_mask(job.outputs["labels"]).shape == (100, 41)
    with Image.open(job.outputs["overlay"]) as overlay:
        assert overlay.size == (41, 100)
        assert 0x0112 not in overlay.getexif()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_batch_size_changes_no_file(predictor: Predictor, folder: Path, tmp_path: Path, batch_size: int) -> None:
    (folder / "broken.png").unlink()
    jobs = plan(str(folder), tmp_path / "out", save=["labels", "json"], overwrite=False)
    predict_images(predictor, jobs, protocol=Protocol(), batch_size=batch_size)
    for job in jobs:
        np.testing.assert_array_equal(read_mask(job.outputs["labels"]), predictor.predict(job.source).labels)


@pytest.mark.parametrize("side", [17, 900])
def test_images_of_many_sizes_do_not_pile_up_until_all_are_read(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    read, waited, sizes = 0, [], []

    def counted(path: Path, **options: bool) -> Pixels:
        nonlocal read
        read += 1
        return read_image(path, **options)

    def noted(batch: list[Pixels], **_: object) -> list[Prediction]:
        sizes.append(len(batch))
        waited.append(read - sum(sizes))
        return [Prediction(image, image[:, :, 0], predictor.description.spec) for image in batch]

    monkeypatch.setattr("atrous.prediction.images.read_image", counted)
    monkeypatch.setattr(predictor, "predict_batch", noted)
    count = 80 if side == 17 else 16
    for number in range(count):
        width = side + 16 * (0 if number in (2, 7) else number)
        Image.new("RGB", (width, side)).save(tmp_path / f"{number:02d}.png")
    jobs = plan(str(tmp_path), tmp_path / "out", save=["json"], overwrite=False)
    assert predict_images(predictor, jobs, protocol=Protocol(), batch_size=4) == {}
    assert max(waited) < (32 if side == 17 else 12)  # 8 batches of 4 images, or of 2^20 pixels
    if side == 17:
        assert sizes == [3, *[1] * 77], "the batch that is nearest to being full goes first"
    assert sum(sizes) == len(list((tmp_path / "out").iterdir())) == count


def test_a_write_that_fails_leaves_no_part_of_a_file(
    predictor: Predictor, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = predictor.predict(folder / "a.png")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for kind, name in (("labels", "x.png"), ("probabilities", "x.npz"), ("overlay", "x.jpg"), ("json", "x.json")):
        with pytest.raises(DataError, match=rf"{name} cannot be written \(no space left in .*{name}"):
            write_prediction(prediction, {kind: tmp_path / "out" / name}, source=folder / "a.png")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_cannot_be_is_refused_before_anything_is_done(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"save='masks' is unknown; choose of overlay, labels"):
        plan(str(folder), out, save=["masks"], overwrite=False)
    with pytest.raises(ConfigError, match=r"save=\[\]"):
        plan(str(folder), out, save=[], overwrite=False)
    with pytest.raises(DataError, match=r"nothere.*no such image, folder or video"):
        plan(str(folder / "nothere"), out, save=["json"], overwrite=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"folder without images"):
        plan(str(tmp_path / "empty"), out, save=["json"], overwrite=False)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file is not a folder"):
        plan(str(folder), tmp_path / "file" / "below", save=["json"], overwrite=False)
    (folder / "a.jpg").write_bytes((folder / "a.png").read_bytes())
    with pytest.raises(ConfigError, match=r"a\.jpg and .*a\.png would both become .*a\.json"):
        plan(str(folder), out, save=["json"], overwrite=False)
    assert not out.exists()


def test_nothing_is_replaced_unless_asked(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"1 of the files already, such as .*b\.json; add overwrite=true"):
        plan(str(folder), tmp_path, save=["json"], overwrite=False)
    assert len(plan(str(folder), tmp_path, save=["json"], overwrite=True)) == 5
    assert (tmp_path / "b.json").read_text() == "mine"


def test_what_was_interrupted_goes_on_with_the_files_that_are_missing(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.png").unlink()
    jobs = plan(str(folder), tmp_path / "out", save=["labels", "json"], overwrite=False)
    predict_images(predictor, jobs[:2], protocol=Protocol(), batch_size=1)
    jobs[1].outputs["json"].unlink()
    before = jobs[1].outputs["labels"].stat().st_mtime_ns
    with pytest.raises(ConfigError, match=r"resume=true to write the others"):
        plan(str(folder), tmp_path / "out", save=["labels", "json"], overwrite=False)
    rest = plan(str(folder), tmp_path / "out", save=["labels", "json"], overwrite=False, resume=True)
    assert [(job.source.name, list(job.outputs)) for job in rest] == [
        ("b.png", ["json"]),
        ("c.png", ["labels", "json"]),
        ("d.jpg", ["labels", "json"]),
    ]
    predict_images(predictor, rest, protocol=Protocol(), batch_size=1)
    assert all(path.is_file() for job in jobs for path in job.outputs.values())
    assert jobs[1].outputs["labels"].stat().st_mtime_ns == before
    assert plan(str(folder), tmp_path / "out", save=["labels", "json"], overwrite=False, resume=True) == []
    with pytest.raises(ConfigError, match=r"give one of them"):
        plan(str(folder), tmp_path / "out", save=["json"], overwrite=True, resume=True)
