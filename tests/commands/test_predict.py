"""atrous-predict as people run it: a folder with a broken file, mistakes in one line, nothing overwritten."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.commands.predict import written_out
from atrous.data.files import read_mask

from .conftest import Run, Trained


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images and one that is cut off, in a folder whose name needs quotes."""
    folder = tmp_path / "my images, 2024=new"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (40, 70, 3), dtype=np.uint8)).save(folder / name)
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes()[:500])
    return folder


@pytest.mark.slow
def test_the_others_are_finished_the_broken_one_is_listed_and_the_exit_code_is_1(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    run, out = trained.rows[0], tmp_path / "out"
    arguments = (f"model={run}", f"input={images}", f"output={out}", "save=labels,json", "threads=1")
    ended = trained.run("predict", *arguments, computes=True)
    assert ended.code == 1
    assert "2 of 3 inputs" in ended.out
    assert ended.errors[0] == "error: 1 of 3 inputs could not be used:"
    assert "c.png" in ended.errors[1]
    assert "truncated or corrupt" in ended.errors[1]
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "a_labels.png", "b.json", "b_labels.png"]
    assert read_mask(out / "a_labels.png").shape == (40, 70)
    assert sum(json.loads((out / "a.json").read_text())["shares"].values()) == pytest.approx(1)
    again = trained.run("predict", *arguments, computes=True)
    assert again.code == 2
    assert "overwrite=true" in again.errors[0]
    assert trained.run("predict", *arguments, "overwrite=true", "protocol=ms_flip_os8", computes=True).code == 1


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("model has no value", "model=VALUE")),
        (("model=x", "input=."), ("output has no value", "output=VALUE")),
        (("modle=x",), ("'modle'",)),
        (("model=x", "input=nothere", "output=o"), ("input='nothere'", "no such image")),
        (("model=x", "input=a${b}.jpg", "output=o"), ("input: ", "'b' not found", "write \\${ where")),
        (("model=x", "input=a${", "output=o"), ("input: ", "write \\${ where")),
        (("model=x", r"input=a\${b}.jpg", "output=o"), ("input='a${b}.jpg'", "no such image")),
        (("model=x", "input=my*/*.png", "output=o", "protocol=nope"), ("'nope'", "single_os8")),
        (("model=x", "input=my*/*.png", "output=o", "save=masks"), ("save='masks'", "overlay, labels")),
        (("model=x", "input=my*/*.png", "output=o", "batch_size=0"), ("batch_size=0", "at least 1")),
        (("model=x", "input=my*/*.png", "output=o", "threads=-1"), ("threads=-1", "at least 0", "at most 1024")),
        (
            ("model=x", "input=my*/*.png", "output=o", "save=probabilities", "protocol=tiles_os16"),
            ("save=probabilities", "tiles_os16"),
        ),
        (
            ("model=xception66", "input=my*/*.png", "output=o"),
            ("'xception66' is nothing on this machine", "xception65"),
        ),
        (("model=x/last.ckpt", "input=my*/*.png", "output=o"), ("x/last.ckpt is not there", "folder of a run")),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    atrous: Run, images: Path, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    ended = atrous("predict", *arguments, computes=True)
    assert ended.code == 2
    (line,) = ended.errors
    for word in words:
        assert word in line
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("model=a b", "model_path='a b'"),
        ("input='x'", "input='x'"),
        ("output=say 'hi'", "output=\"say 'hi'\""),
        ("protocol=single", "protocol_name='single'"),
        ("save=labels,json", "save=[labels,json]"),
        ("save=[json]", "save=[json]"),
        ("--help", "--help"),
    ],
)
def test_arguments_are_written_out_for_hydra(given: str, expected: str) -> None:
    assert written_out(given) == expected
