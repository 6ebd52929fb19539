"""atrous-evaluate weights=NAME: released weights without a run, here with fresh ones in place of a download."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NAME = "mobilenetv2_coco_voc_trainaug"

# Everything but the file of 23 MB is real, and the number of images of the split.
_SCRIPT = """
import atrous.data.voc as voc
voc.OFFICIAL_COUNTS = {"val": 2}
import atrous.weights.released as released
released.load_preset = lambda name, source: released.build_preset(released.preset(name)).eval()
import torch
torch.manual_seed(0)
from atrous.commands.evaluate import main
main()
"""


def _evaluate(folder: Path, data: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    common = (f"weights={NAME}", "data=voc", f"data.root={data}", "data.val.limit=2", "threads=1")
    return subprocess.run(
        [sys.executable, "-c", _SCRIPT, *common, "data.num_workers=0", *arguments],
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_measured_score_stands_beside_the_published_one(tmp_path: Path, real_data: Path) -> None:
    ended = _evaluate(tmp_path, real_data, "protocol=single_os16,single_os32")
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "outputs" / "weights" / NAME
    entries = json.loads((folder / "results.json").read_text())["evaluations"]
    assert set(entries) == {"single_os16", "single_os32"}
    assert entries["single_os16"]["images"] == 2
    assert entries["single_os16"]["checkpoint"] == "released"
    first, second = (line for line in ended.stdout.splitlines() if "mIoU" in line)
    difference = 100 * entries["single_os16"]["miou"] - 75.32
    assert first.endswith(f"published 75.32% (difference {difference:+.2f})")
    assert second.endswith("nothing published under this protocol of these images")
    page = (folder / "evaluation" / "single_os16" / "index.html").read_text()
    assert "<b>75.32%</b>" in page
    assert "published" not in (folder / "evaluation" / "single_os32" / "index.html").read_text()


@pytest.mark.exhaustive
def test_a_part_of_the_images_stands_beside_nothing_and_is_not_taken_for_all_of_them(
    tmp_path: Path, real_data: Path
) -> None:
    command = ("protocol=single_os16", "page=false")
    ended = _evaluate(tmp_path, real_data, *command, "data.val.limit=1")
    assert ended.returncode == 0, ended.stderr
    assert "  1 images, " in ended.stdout
    assert ended.stdout.rstrip().endswith("pixels  nothing published under this protocol of these images")
    results = tmp_path / "outputs" / "weights" / NAME / "results.json"
    before = results.read_bytes()
    ended = _evaluate(tmp_path, real_data, *command)
    assert ended.returncode == 2
    words = (
        "single_os16 is of data.val.limit=1, but asked for is data.val.limit=2: overwrite=true replaces it, tag=NAME"
    )
    assert words in ended.stderr
    assert results.read_bytes() == before


@pytest.mark.exhaustive
def test_an_archive_for_vocs_server_is_written_once(tmp_path: Path, real_data: Path) -> None:
    command = ("protocol=single_os16", "submission=voc")
    ended = _evaluate(tmp_path, real_data, *command)
    assert ended.returncode == 0, ended.stderr
    (path,) = (tmp_path / "outputs" / "weights" / NAME / "evaluation" / "single_os16").iterdir()
    assert f"{path.name}  2 images" in ended.stdout
    names = (real_data / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").read_text().split()[:2]
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in names]
        archive.extractall(tmp_path)
        for name, file in zip(names, archive.namelist(), strict=True):
            image = Image.open(real_data / "VOCdevkit/VOC2012/JPEGImages" / f"{name}.jpg")
            with Image.open(tmp_path / file) as picture:
                assert picture.size == image.size
                assert np.asarray(picture).max() < 21
    again = _evaluate(tmp_path, real_data, *command)
    assert again.returncode == 2
    assert "is there already; overwrite=true replaces it" in again.stderr


@pytest.mark.exhaustive
@pytest.mark.slow
def test_classes_that_are_not_the_data_sets_are_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "atrous.commands.evaluate", f"weights={NAME}", "data=shapes", "threads=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert f"weights={NAME} tells 21 classes apart, but the data set 'shapes' has 11" in ended.stderr
