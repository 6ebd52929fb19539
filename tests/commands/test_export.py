"""atrous-export as people run it: files that atrous and others can read, mistakes in one line."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from .conftest import Run, Trained


@pytest.mark.exhaustive
def test_a_runs_network_becomes_files_that_are_checked(trained: Trained, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    run, out = trained.rows[0], tmp_path / "out"
    Image.new("RGB", (90, 60), (200, 30, 90)).save(tmp_path / "image.png")
    arguments = (
        f"run={run}",
        f"output={out}",
        "format=pt2,safetensors",
        f"image={tmp_path / 'image.png'}",
        "side=65",
        "output_stride=16",
    )
    ended = trained.run("export", *arguments)
    assert ended.code == 0, ended.err
    assert [line.split(":")[0] for line in ended.out.splitlines()] == [
        str(out / "network.pt2"),
        str(out / "network.safetensors"),
    ]
    logits = torch.export.load(out / "network.pt2").module()(torch.zeros(1, 3, 40, 50))
    assert logits.shape == (1, 11, 40, 50)
    predicted = trained.run(
        "predict", f"model={out / 'network.safetensors'}", f"input={tmp_path / 'image.png'}", f"output={out}"
    )
    assert predicted.code == 0, predicted.err
    assert (out / "image_labels.png").is_file()
    again = trained.run("export", *arguments)
    assert again.code == 2
    assert "network.pt2 is there already; add overwrite=true" in again.errors[0]


@pytest.mark.every(4)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("run has no value",)),
        (("run=gone", "output=o"), ("'gone' is nothing on this machine",)),
        (("run=.", "output=o"), ("config.yaml",)),
        (("run=.", "output=o", "format=tflite"), ("format='tflite'", "pt2, onnx, safetensors")),
        (("run=.", "output=file/below"), ("file is not a folder",)),
        (("run=.", "output=o", "name="), ("name=''", "name=network")),
        (("run=.", "output=o", "name=a/b"), ("name='a/b'", "name=network")),
        (("run=.", "output=o", "name=.."), ("name='..'", "name=network")),
        (("run=.", "output=o", "image=gone.png"), ("gone.png",)),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    atrous: Run, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    ended = atrous("export", *arguments, computes=True)
    assert ended.code == 2
    (line,) = ended.errors
    for word in words:
        assert word in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
