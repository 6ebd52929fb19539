"""`atrous.load`: every kind of checkpoint gives the network that wrote it, or says what is wrong."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import atrous
from atrous.data.spec import VOC_SPEC
from atrous.errors import AtrousError, CheckpointError, ConfigError, StoreError
from atrous.networks.segmenter import Segmenter
from atrous.prediction.description import Description
from atrous.prediction.loading import load_network
from atrous.prediction.released import describe
from atrous.prediction.safetensors_file import write_safetensors
from atrous.weights.tensorflow import _targets as tensorflow_targets
from atrous.weights.torchvision_names import backbone_targets, head_targets
from atrous.weights.zoo import preset, presets

from ..networks.stub_timm import StubTimm
from .conftest import CONFIG, scene


def _same(one: Segmenter, other: Segmenter) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_run_gives_its_last_or_its_best_weights(run: Path, network: Segmenter) -> None:
    last, description = load_network(run)
    assert _same(last, network)
    assert not last.training
    assert description.spec.name == "shapes"
    best, _ = load_network(run, checkpoint="best")
    assert torch.equal(best.classifier.bias, torch.linspace(0, 9, 11))  # type: ignore[arg-type]


def test_the_front_door_predicts(run: Path) -> None:
    prediction = atrous.load(str(run), device="cpu").predict(scene(40, 70))
    assert prediction.labels.shape == (40, 70)
    assert prediction.classes[:3] == ("sand", "grass", "sea")


def test_importing_atrous_and_naming_load_costs_no_torch() -> None:
    script = "import sys, atrous; assert 'load' in dir(atrous); print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )


def test_safetensors_hold_all_that_is_needed(tmp_path: Path, network: Segmenter, description: Description) -> None:
    pytest.importorskip("safetensors")
    write_safetensors(tmp_path / "n.safetensors", network, description)
    loaded, read = load_network(tmp_path / "n.safetensors")
    assert _same(loaded, network)
    assert read == Description.from_json(description.to_json(), source="test")
    assert (read.spec, read.preprocessing, read.output_stride) == (description.spec, "inception", 16)


def test_a_description_builds_nothing_but_networks(description: Description) -> None:
    targets: list[Any] = ["atrous.files.write_text", "os.system", "atrous.networks.segmenter.import_module"]
    targets += ["atrous.data.Folder", "atrous.networks.multiply_adds"]
    for target in [*targets, [], {"a": 1}, 3]:
        values = json.loads(description.to_json())
        values["model"]["context"] = {"_target_": target, "path": "x"}
        with pytest.raises(ConfigError, match=r"model\.context\._target_=.*: only classes of atrous and its networks"):
            Description.from_json(json.dumps(values), source="f").build()


@pytest.mark.parametrize("way", ["run", "safetensors"])
def test_a_backbone_that_was_pretrained_by_timm_is_filled_with_its_own_weights_and_nothing_is_fetched(
    run: Path, way: str, description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = StubTimm()
    monkeypatch.setitem(sys.modules, "timm", stub)
    node = {"_target_": "atrous.networks.TimmBackbone", "_partial_": True, "name": "resnet18", "pretrained": True}
    described = dataclasses.replace(description, backbone=node)
    network = described.build()
    source = run
    if way == "run":
        (run / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "backbone": node}))
        state = {f"model.{name}": value for name, value in network.state_dict().items()}
        torch.save({"state_dict": state, "global_step": 9}, run / "checkpoints" / "last.ckpt")
    else:
        pytest.importorskip("safetensors")
        source = run / "n.safetensors"
        write_safetensors(source, network, described)
    predictor = atrous.load(source, device="cpu")
    assert predictor.predict(scene(40, 70)).labels.shape == (40, 70)
    assert stub.asked == [("resnet18", False)] * 2


def test_a_backbone_that_a_file_hides_in_its_network_fetches_nothing(
    description: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = StubTimm()
    monkeypatch.setitem(sys.modules, "timm", stub)
    hidden = {"_target_": "atrous.networks.TimmBackbone", "name": "resnet18", "pretrained": True}
    for place in ({"context": hidden}, {"decoder_convolutions": [hidden]}):
        with pytest.raises(ConfigError):
            dataclasses.replace(description, model={**description.model, **place}).build()
    assert stub.asked == [("resnet18", False)] * 2


@pytest.mark.parametrize("change", [{"format": 99}, {"classes": ["one"]}, {"preprocessing": "none"}, {"palette": 3}])
def test_a_description_that_cannot_be_used_names_its_file(description: Description, change: dict[str, Any]) -> None:
    text = json.dumps({**json.loads(description.to_json()), **change})
    with pytest.raises(CheckpointError, match=r"n\.safetensors"):
        Description.from_json(text, source="n.safetensors")


def test_torchvisions_file_is_recognised(tmp_path: Path) -> None:
    torch.manual_seed(0)
    description = describe(preset("torchvision_deeplabv3_resnet50_coco"), num_classes=21)
    network = description.build()
    named = {f"backbone.{name}": tensor for name, tensor in backbone_targets(network.backbone)} | dict(
        head_targets(network)
    )
    project = named["classifier.0.project.0.weight"]
    named["classifier.0.project.0.weight"] = torch.cat([project[:, 256:], project[:, :256]], 1)
    torch.save({name: tensor.detach() for name, tensor in named.items()}, tmp_path / "deeplab.pth")
    loaded, found = load_network(tmp_path / "deeplab.pth")
    assert _same(loaded, network)
    assert found.spec == VOC_SPEC
    assert (found.output_stride, found.preprocessing) == (8, "imagenet")


def test_a_tensorflow_checkpoint_is_recognised_by_its_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = describe(preset("mobilenetv2_coco_voc_trainaug"), num_classes=21).build()
    variables = {}
    for name, tensor in tensorflow_targets(network):
        value = tensor.detach().numpy()
        if value.ndim == 4:
            value = value.transpose(2, 3, 0, 1) if name.endswith("depthwise_weights") else value.transpose(2, 3, 1, 0)
        variables[name] = value
    monkeypatch.setattr("atrous.prediction.released.open_checkpoint", lambda source: variables)
    (tmp_path / "model.ckpt.index").touch()
    loaded, found = load_network(tmp_path / "model.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))
    assert (found.spec, found.preprocessing, found.padded_size) == (VOC_SPEC, "inception", (513, 513))


def test_every_released_network_can_be_described_and_built_from_plain_data() -> None:
    for name in presets():
        found = preset(name)
        if found.network.model is None:
            with pytest.raises(ConfigError, match="ImageNet"):
                describe(found, num_classes=found.classes)
            continue
        read = Description.from_json(describe(found, num_classes=found.classes).to_json(), source=name)
        with torch.device("meta"):
            assert read.build().num_classes == found.classes == len(read.spec.classes)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ("unfinished", StoreError, r"stopped at step 3 of 9, with a checkpoint last\.ckpt.*atrous-train seed=7"),
        ("no checkpoint", StoreError, r"is done, without a checkpoint last\.ckpt: put it back"),
        ("no config", StoreError, r"has no config\.yaml"),
        ("damaged", CheckpointError, r"last\.ckpt: not a file of tensors"),
        ("other classes", CheckpointError, r"11 classes, but 'voc2012' names 21"),
        ("other network", CheckpointError, r"last\.ckpt does not fit this network"),
    ],
)
def test_a_run_that_cannot_be_used_says_why(run: Path, change: str, error: type[AtrousError], words: str) -> None:
    checkpoint, config = run / "checkpoints" / "last.ckpt", run / "config.yaml"
    if change == "unfinished":
        (run / "status.json").write_text('{"format": 1, "state": "stopped", "step": 3, "max_steps": 9}')
    elif change == "no checkpoint":
        checkpoint.unlink()
    elif change == "no config":
        config.unlink()
    elif change == "damaged":
        checkpoint.write_bytes(checkpoint.read_bytes()[:999])
    elif change == "other classes":
        config.write_text(yaml.safe_dump({**CONFIG, "data": {**CONFIG["data"], "val": {"_target_": "a.VOC2012"}}}))
    else:
        config.write_text(yaml.safe_dump({**CONFIG, "model": {**CONFIG["model"], "aspp_channels": 8}}))
    with pytest.raises(error, match=words):
        load_network(run)


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("model.x", 3, "x is of type int, expected a tensor"),
        ("model.classifier.bias", torch.tensor(1.0), r"classifier\.bias is \(\), wanted \(11,\)"),
        ("model.classifier.bias", torch.ones(11, dtype=torch.int8), r"classifier\.bias is int8, wanted float32"),
        ("model.classifier.bias", torch.ones(11).to_sparse(), r"classifier\.bias is sparse_coo"),
    ],
)
def test_a_run_whose_checkpoint_holds_something_else_names_the_entry(
    run: Path, network: Segmenter, entry: str, value: Any, words: str
) -> None:
    state = {f"model.{name}": tensor for name, tensor in network.state_dict().items()} | {entry: value, 7: 7}
    torch.save({"state_dict": state, "global_step": 9}, run / "checkpoints" / "last.ckpt")
    with pytest.raises(CheckpointError, match=rf"last\.ckpt.*{words}"):
        load_network(run)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({7: torch.zeros(1)}, "its entry 7 has no name"),
        ({"epoch": 7}, "epoch is of type int"),
        ({"classifier.4.bias": torch.tensor(1.0)}, "holds no classifier of torchvision"),
    ],
)
def test_a_pth_file_of_something_else_names_the_entry(tmp_path: Path, change: dict[Any, Any], words: str) -> None:
    torch.save({"classifier.4.bias": torch.zeros(21), **change}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rf"x\.pth.*{words}"):
        load_network(tmp_path / "x.pth")


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_checkpoint_of_a_run_is_loaded_as_its_folder_is(
    run: Path, name: str, network: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = network.state_dict() | {"classifier.bias": torch.arange(float(network.num_classes))}
    torch.save({"state_dict": {f"model.{key}": value for key, value in state.items()}}, run / "checkpoints" / name)
    monkeypatch.chdir(run / "checkpoints")
    for source in (run / "checkpoints" / name, name):
        loaded, description = load_network(source)
        assert loaded.classifier.bias is not None
        assert loaded.classifier.bias.tolist() == list(range(network.num_classes))
        assert description == load_network(run, checkpoint=name.removesuffix(".ckpt"))[1]


def test_a_checkpoint_away_from_its_run_says_what_would_be_right(run: Path, tmp_path: Path) -> None:
    away = tmp_path / "away.ckpt"
    (run / "checkpoints" / "last.ckpt").rename(away)
    with pytest.raises(CheckpointError, match=r"away\.ckpt does not tell its network: .*config\.yaml.*folder of a run"):
        load_network(away)


def test_what_is_not_there_is_said(tmp_path: Path, run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothere\.pth is not there"):
        load_network(tmp_path / "nothere.pth")
    with pytest.raises(ConfigError, match=r"'xception66' is nothing on this machine.*"):
        load_network("xception66")
    with pytest.raises(ConfigError, match=r"checkpoint='first': last or best"):
        load_network(run, checkpoint="first")
    (tmp_path / "x.pth").write_bytes(b"no")
    with pytest.raises(CheckpointError, match=r"x\.pth: not a file of tensors"):
        load_network(tmp_path / "x.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"holds no classifier of torchvision"):
        load_network(tmp_path / "x.pth")
    pytest.importorskip("safetensors.torch").save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"no description of their network"):
        load_network(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"\1" * 40)
    with pytest.raises(CheckpointError, match=r"cannot be read as safetensors"):
        load_network(tmp_path / "x.safetensors")


def test_one_result_for_all_ways_in(run: Path, tmp_path: Path, network: Segmenter, description: Description) -> None:
    pytest.importorskip("safetensors")
    write_safetensors(tmp_path / "n.safetensors", network, description)
    image = scene(64, 80)
    one, other = [
        atrous.load(source, precision="float32").predict(image).labels for source in (run, tmp_path / "n.safetensors")
    ]
    np.testing.assert_array_equal(one, other)


def test_a_finished_run_that_never_validated_is_not_sent_to_be_finished(run: Path) -> None:
    (run / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(StoreError, match=r"without a checkpoint best\.ckpt: it is kept when .*; checkpoint=last has"):
        load_network(run, checkpoint="best")


@pytest.mark.parametrize(("suffix", "how"), [(".pt2", r"torch\.export\.load"), (".onnx", r"onnxruntime\.Inference")])
@pytest.mark.parametrize("preset", [None, "xception65_coco_voc_trainaug"])
def test_an_exported_network_says_what_it_is_and_what_runs_it(
    suffix: str, how: str, preset: str | None, tmp_path: Path
) -> None:
    path = tmp_path / f"network{suffix}"
    path.write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=rf"format={suffix[1:]}\): {how}.*format=safetensors"):
        load_network(path, preset=preset)
