"""The evaluation behind the tables: every image once, at its own size, whatever the batch."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atrous import DeepLabV3
from atrous.data import VOC2012, Shapes
from atrous.evaluation.evaluate import evaluate
from atrous.evaluation.protocol import Protocol
from atrous.networks import ResNet


def _model(num_classes: int) -> DeepLabV3:
    torch.manual_seed(0)
    small = partial(ResNet, units=(1, 1, 1, 1), unit="basic", width=4)
    return DeepLabV3(backbone=small, num_classes=num_classes, aspp_channels=8, multi_grid=None).eval()


def test_the_batch_size_does_not_change_a_single_count() -> None:
    dataset, model = Shapes(split="val", length=7, size=65), _model(11)
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


@pytest.mark.slow
def test_real_voc_val_is_scored_on_every_labelled_pixel_of_241_images(real_data: Path) -> None:
    dataset = VOC2012(root=real_data, split="val")
    result = evaluate(
        _model(21),
        dataset,
        Protocol(output_stride=32),
        padded_size=(513, 513),
        preprocessing_name="inception",
        batch_size=4,
    )
    folder = real_data / "VOCdevkit" / "VOC2012"
    names = (folder / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    labelled = sum(
        int((np.asarray(Image.open(folder / "SegmentationClass" / f"{name}.png")) != 255).sum()) for name in names
    )
    assert result["images"] == len(names) == 241
    assert result["pixels"] == labelled
