"""VOC's protocol on real images: against an independent one, and the same counts for any batch size."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atrous import DeepLabV3
from atrous.data import VOC2012
from atrous.evaluation.evaluate import Evaluation, evaluate_protocols
from atrous.evaluation.predicting import Feeding
from atrous.evaluation.protocol import Protocol
from atrous.networks import ResNet


def _model() -> DeepLabV3:
    """A network with random weights that predicts many classes."""
    torch.manual_seed(0)
    small = partial(ResNet, units=(1, 1, 1, 1), unit="basic", width=4)
    model = DeepLabV3(backbone=small, num_classes=21, aspp_channels=8, multi_grid=None).eval()
    torch.nn.init.normal_(model.classifier.weight, std=3)
    return model


def _voc_scores(truths: list[np.ndarray], labels: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """VOC's own protocol, one class at a time, without a confusion matrix (VOCevalseg.m in words)."""
    ious = []
    for label in range(21):
        hit = sum(int(((t == label) & (p == label)).sum()) for t, p in zip(truths, labels, strict=True))
        seen = sum(int((((t == label) | (p == label)) & (t != 255)).sum()) for t, p in zip(truths, labels, strict=True))
        ious.append(hit / seen if seen else np.nan)
    return np.array(ious), float(np.nanmean(ious))


@pytest.mark.exhaustive
def test_real_voc_val_scores_are_those_of_an_independent_protocol_on_every_labelled_pixel(real_data: Path) -> None:
    dataset, model = VOC2012(root=real_data, split="val"), _model()
    model.set_output_stride(32)
    feeding = Feeding(preprocessing_name="inception", padded_size=(513, 513), batch_size=4)
    found = evaluate_protocols(model, dataset, {"single": Protocol()}, feeding)["single"]
    folder = real_data / "VOCdevkit" / "VOC2012"
    names = (folder / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    truths, labels = [], []
    for name in names:
        pixels = np.asarray(Image.open(folder / "JPEGImages" / f"{name}.jpg").convert("RGB"), np.float32)
        truth = np.asarray(Image.open(folder / "SegmentationClass" / f"{name}.png"))
        padded = np.zeros((3, 513, 513), np.float32)
        padded[:, : truth.shape[0], : truth.shape[1]] = pixels.transpose(2, 0, 1) / 127.5 - 1
        with torch.inference_mode():
            label = model(torch.from_numpy(padded)[None])[0].argmax(0).numpy()
        truths.append(truth)
        labels.append(label[: truth.shape[0], : truth.shape[1]])
    result = found.result(dataset.spec.classes)
    iou, miou = _voc_scores(truths, labels)
    assert result["images"] == len(names) == 241
    assert result["pixels"] == sum(int((truth != 255).sum()) for truth in truths)
    # Two JPEG decoders and two layouts in memory: the same to a few pixels in ten thousand.
    assert result["miou"] == pytest.approx(miou, abs=2e-3)
    np.testing.assert_allclose([value or 0 for value in result["iou"].values()], iou, atol=5e-3)


@pytest.mark.exhaustive
def test_real_voc_val_has_one_matrix_for_any_batch_size(real_data: Path) -> None:
    dataset, model = VOC2012(root=real_data, split="val"), _model()
    model.set_output_stride(32)
    protocols = {"single": Protocol()}

    def found(batch_size: int) -> Evaluation:
        feeding = Feeding(preprocessing_name="inception", padded_size=(513, 513), batch_size=batch_size)
        return evaluate_protocols(model, dataset, protocols, feeding)["single"]

    whole = found(4).records
    # A convolution of one image may sum in another order than of four: of 60 million pixels one may fall elsewhere.
    assert np.abs(found(1).records.matrix - whole.matrix).sum() <= 2 * 3
    assert len(whole) == 241
