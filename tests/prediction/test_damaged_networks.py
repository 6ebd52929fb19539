"""Networks in files that were damaged or tampered with: loaded, or refused with our own error, and nothing is run."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import CheckpointError
from atrous.networks.segmenter import Segmenter
from atrous.prediction.description import Description
from atrous.prediction.loading import load_network
from atrous.prediction.safetensors_file import read_safetensors, write_safetensors
from atrous.weights.torch_files import read_torch

from ..conftest import ReadDamaged
from .conftest import CONFIG

# Copies: a later change may go into a value, which the next case is to draw as it was.
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 2, 1e300, float("nan"), "", "x", "os.system", [], [0], [[]], {}, {"a": 1}]
).map(copy.deepcopy)


def tampered(data: st.DataObject, content: Any) -> Any:
    """`content` with one to three of its entries, at any depth, replaced or taken away."""
    content = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        node = content
        while True:
            keys: list[Any] = sorted(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(node[key], dict | list) and data.draw(st.booleans()):
                node = node[key]
                continue
            if isinstance(node, dict) and data.draw(st.integers(0, 4)) == 0:
                del node[key]
            else:
                node[key] = data.draw(VALUES)
            break
    return content


# A network is built for each case, which takes longer than to read a file.
FEWER = settings(max_examples=settings().max_examples // 3)


@given(st.data())
@FEWER
def test_a_damaged_safetensors_file_is_loaded_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    read_damaged: ReadDamaged,
    network: Segmenter,
    description: Description,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / "n.safetensors"
    if not path.with_name("sound").exists():
        write_safetensors(path.with_name("sound"), network, description)
    content = path.with_name("sound").read_bytes()
    length = int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):  # damage the header, which is where everything is decided, and leave the rest
        head, tail = content[: 8 + length], content[8 + length :]
    else:
        head, tail = content, b""

    def read(damaged: bytes) -> Any:
        path.write_bytes(damaged + tail)
        return read_safetensors(path)

    loaded = read_damaged(data, head, read)
    assert loaded is None or isinstance(loaded[0], Segmenter)


@given(st.data())
@FEWER
def test_a_tampered_description_is_built_or_refused(
    read_damaged: ReadDamaged, description: Description, data: st.DataObject
) -> None:
    text = json.dumps(tampered(data, json.loads(description.to_json())))

    def read(_: bytes) -> Any:
        return Description.from_json(text, source="n.safetensors").build()

    network = read_damaged(data, b"", read)
    assert network is None or isinstance(network, Segmenter)


@given(st.data())
@FEWER
def test_a_run_with_a_tampered_config_is_loaded_or_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, network: Segmenter, data: st.DataObject
) -> None:
    folder = _run(tmp_path_factory.getbasetemp() / "tampered", network)
    by_bytes = data.draw(st.booleans())
    content = yaml.safe_dump(CONFIG if by_bytes else tampered(data, CONFIG)).encode()

    def read(damaged: bytes) -> Any:
        (folder / "config.yaml").write_bytes(damaged if by_bytes else content)
        return load_network(folder)[0]

    loaded = read_damaged(data, content, read)
    assert loaded is None or isinstance(loaded, Segmenter)


def test_a_file_of_torch_whose_end_is_damaged_is_refused(tmp_path: Path) -> None:
    torch.save({"classifier.4.bias": torch.zeros(3)}, path := tmp_path / "n.pth")
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x06\x07") + 16] = 7  # disks over which the archive spreads: zipfile refuses to look
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"n\.pth: damaged: .*multiple disks"):
        read_torch(path)


@given(st.data())
def test_a_damaged_file_of_torch_is_loaded_or_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    path, stream = tmp_path_factory.getbasetemp() / "n.pth", io.BytesIO()
    old = data.draw(st.booleans())  # the format of before PyTorch 1.6 is a plain pickle
    torch.save({"classifier.4.bias": torch.zeros(3)}, stream, _use_new_zipfile_serialization=not old)

    def read(damaged: bytes) -> Any:
        path.write_bytes(damaged)
        return read_torch(path)

    content = read_damaged(data, stream.getvalue(), read)
    assert content is None or isinstance(content, dict)


def _run(folder: Path, network: Segmenter) -> Path:
    if not folder.exists():
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps({"format": 1, "state": "done"}))
        state = {f"model.{name}": value for name, value in network.state_dict().items()}
        torch.save({"state_dict": state, "global_step": 9}, folder / "checkpoints" / "last.ckpt")
    return folder
