"""The evaluation behind the tables: every image once, at its own size, whatever the batch and the company."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from atrous import DeepLabV3
from atrous.data import Shapes
from atrous.errors import ConfigError, DataError
from atrous.evaluation import predicting
from atrous.evaluation.evaluate import evaluate, evaluate_protocols
from atrous.evaluation.predicting import Feeding
from atrous.evaluation.protocol import Protocol
from atrous.networks import ResNet

INCEPTION = Feeding(preprocessing_name="inception", batch_size=4)


def _model(num_classes: int) -> DeepLabV3:
    torch.manual_seed(0)
    small = partial(ResNet, units=(1, 1, 1, 1), unit="basic", width=4)
    return DeepLabV3(backbone=small, num_classes=num_classes, aspp_channels=8, multi_grid=None).eval()


def _lively_model(num_classes: int) -> DeepLabV3:
    """A network with random weights that predicts many classes, so that a lost or doubled pixel would be seen."""
    model = _model(num_classes)
    torch.nn.init.normal_(model.classifier.weight, std=3)
    return model


def test_the_batch_size_does_not_change_a_single_count() -> None:
    dataset, model = Shapes(split="val", length=7, size=65), _lively_model(11)
    results = [
        evaluate(model, dataset, Protocol(), padded_size=None, preprocessing_name="inception", batch_size=size)
        for size in (1, 3, 7)
    ]
    assert results[0] == results[1] == results[2]
    assert results[0]["images"] == 7
    assert results[0]["pixels"] == 7 * 65 * 65


def test_another_output_stride_is_put_back_afterwards() -> None:
    model = _model(11)
    evaluate(
        model, Shapes(split="val", length=1), Protocol(output_stride=8), padded_size=None, preprocessing_name="imagenet"
    )
    assert model.output_stride == 16


class _Broken(Shapes):
    def read(self, index: int) -> Any:
        if index:
            raise DataError("broken")
        return super().read(index)


class _Nameless(Shapes):
    def sample_id(self, index: int) -> str:
        raise DataError("no name")


@pytest.mark.parametrize("kind", [Shapes, _Broken, _Nameless])
def test_every_module_is_in_its_own_mode_afterwards_also_where_it_ended_with_an_error(kind: type[Shapes]) -> None:
    model = _model(11).train()
    model.backbone.eval()  # as while its batch norm is frozen
    modes = [module.training for module in model.modules()]
    seen = []
    model.classifier.register_forward_hook(lambda module, *_: seen.append(module.training))
    try:
        evaluate_protocols(
            model, kind(split="val", length=2, size=65), {"": Protocol()}, replace(INCEPTION, batch_size=1)
        )
    except DataError:  # whose traceback holds everything that was open
        assert kind is not Shapes
        assert [module.training for module in model.modules()] == modes
    assert [module.training for module in model.modules()] == modes
    assert seen
    assert not any(seen)


@pytest.mark.parametrize(("asked", "ran_on"), [(None, "meta"), ("cpu", "cpu")])
def test_a_network_runs_where_it_is_unless_another_device_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, ran_on: str
) -> None:
    model, devices = _model(11).to("meta"), []

    def noted(network: DeepLabV3, batch: dict[str, torch.Tensor], *_: Any) -> torch.Tensor:
        devices.append(next(network.parameters()).device.type)
        return torch.zeros_like(batch["label"])

    monkeypatch.setattr(predicting, "_labels", noted)
    monkeypatch.setattr(model, "to", lambda device: model.to_empty(device=device))  # "meta" has nothing to copy
    evaluate_protocols(
        model, Shapes(split="val", length=1, size=65), {"": Protocol()}, replace(INCEPTION, device=asked)
    )
    assert devices == [ran_on]


def test_several_protocols_in_one_pass_count_what_each_counts_alone() -> None:
    dataset, model = Shapes(split="val", length=5, size=75), _lively_model(11)
    protocols = {
        "os8": Protocol(output_stride=8),
        "os32": Protocol(output_stride=32),
        "ms": Protocol(scales=(0.5, 1.25), flip=True),
        "padded": Protocol(padded_size=(129, 97)),
        "tiles": Protocol(tile=(49, 49), overlap=16),
    }
    together = evaluate_protocols(model, dataset, protocols, INCEPTION)
    for name, protocol in protocols.items():
        alone = evaluate_protocols(model, dataset, {name: protocol}, INCEPTION)[name]
        np.testing.assert_array_equal(together[name].records.matrix, alone.records.matrix)
    assert len({json.dumps(together[name].records.matrix.tolist()) for name in protocols}) == len(protocols)
    assert model.output_stride == 16


def test_a_file_is_decoded_once_however_many_protocols_there_are() -> None:
    reads: list[int] = []

    class Counting(Shapes):
        def read(self, index: int) -> Any:
            reads.append(index)
            return super().read(index)

    protocols = {"a": Protocol(), "b": Protocol(output_stride=32), "c": Protocol(flip=True)}
    evaluate_protocols(_model(11), Counting(split="val", length=3, size=65), protocols, INCEPTION)
    assert reads == [0, 1, 2]


class _Mixed:
    """Scenes of several heights."""

    uniform_size = None

    def __init__(self) -> None:
        self._scenes = Shapes(split="val", length=4, size=75)
        self.spec = self._scenes.spec

    def __len__(self) -> int:
        return len(self._scenes)

    def sample_id(self, index: int) -> str:
        return self._scenes.sample_id(index)

    def read(self, index: int) -> Any:
        image, label = self._scenes.read(index)
        return image[: 60 + index], label[: 60 + index]


def test_images_of_different_sizes_are_padded_for_each_protocol_by_itself() -> None:
    model = _lively_model(11)
    protocols = {"os8": Protocol(output_stride=8), "os32": Protocol(output_stride=32)}
    together = evaluate_protocols(model, _Mixed(), protocols, INCEPTION)
    for name, protocol in protocols.items():
        alone = evaluate_protocols(model, _Mixed(), {name: protocol}, INCEPTION)[name]
        np.testing.assert_array_equal(together[name].records.matrix, alone.records.matrix)
        _, pixels, _ = together[name].records.totals()
        assert pixels.sum(1).tolist() == [75 * rows for rows in (60, 61, 62, 63)]


class _WithVoid(Shapes):
    """Scenes with a void line along every outline, as VOC draws them."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.spec = replace(self.spec, void_marks_outlines=True)

    def read(self, index: int) -> Any:
        image, label = super().read(index)
        edges = (np.diff(label, axis=0, append=label[-1:]) != 0) | (np.diff(label, axis=1, append=label[:, -1:]) != 0)
        return image, np.where(edges, 255, label).astype(np.uint8)


def test_outlines_are_scored_when_asked_for() -> None:
    dataset, model = _WithVoid(split="val", length=3, size=97), _lively_model(11)
    result = evaluate_protocols(model, dataset, {"": Protocol()}, INCEPTION, boundary=True)[""].result(
        dataset.spec.classes
    )
    curve = result["boundary"]["trimap_miou"]
    assert all(value is not None and 0 <= value <= 1 for value in curve)
    assert 0 < result["boundary"]["f_score"] < 1
    assert set(result["boundary"]["f_score_of"]) == set(dataset.spec.classes)
    assert "boundary" not in evaluate_protocols(model, dataset, {"": Protocol()}, INCEPTION)[""].result(
        dataset.spec.classes
    )


def test_what_does_not_fit_is_refused_before_an_image_is_read() -> None:
    class Unread(Shapes):
        def read(self, index: int) -> Any:
            raise AssertionError("read")

    dataset = Unread(split="val", length=1)
    with pytest.raises(ConfigError, match=r"protocol os3: .*3"):
        evaluate_protocols(_model(11), dataset, {"os3": Protocol(output_stride=3)}, INCEPTION)
    with pytest.raises(ConfigError, match=r"tells 21 classes apart, but the data set 'shapes' has 11"):
        evaluate_protocols(_model(21), dataset, {"single": Protocol()}, INCEPTION)
    with pytest.raises(ConfigError, match=r"protocol odd: tile=\[64, 64\]"):
        evaluate_protocols(_model(11), dataset, {"odd": Protocol(tile=(64, 64), overlap=8)}, INCEPTION)


def test_an_image_larger_than_the_padding_is_named() -> None:
    dataset = Shapes(split="val", length=1, size=129)
    for protocol in (Protocol(padded_size=(65, 65)), Protocol()):
        with pytest.raises(DataError, match=r"val_000000.* 129x129 .* 65x65"):
            evaluate(_model(11), dataset, protocol, padded_size=(65, 65), preprocessing_name="inception")


@pytest.mark.parametrize("tf32", [False, True])
def test_cuda_would_compute_by_the_same_kernels_whoever_evaluates(monkeypatch: pytest.MonkeyPatch, tf32: bool) -> None:
    model, seen = _model(11), []
    plain = model.low_resolution_logits

    def noted(x: torch.Tensor) -> torch.Tensor:
        seen.append((torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32))
        return plain(x)

    monkeypatch.setattr(model, "low_resolution_logits", noted)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)  # as a training leaves it
    evaluate_protocols(model, Shapes(split="val", length=2, size=65), {"": Protocol()}, replace(INCEPTION, tf32=tf32))
    assert seen == [(False, tf32)]
    assert torch.backends.cudnn.benchmark is True
