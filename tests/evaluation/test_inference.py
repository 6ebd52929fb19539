"""Multi-scale and flip against a plain loop, bands against whole maps."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from atrous import DeepLabV3Plus
from atrous.errors import ConfigError
from atrous.evaluation import inference
from atrous.evaluation.inference import mean_probabilities, predict, run_passes
from atrous.evaluation.protocol import Protocol, load_protocol, protocol_names
from atrous.networks import ResNet

MULTI_SCALE = Protocol(scales=(0.5, 1.0, 1.5), flip=True)


@pytest.fixture(scope="module")
def model() -> DeepLabV3Plus:
    torch.manual_seed(0)
    small = partial(ResNet, units=(2, 1, 1, 1), unit="basic", width=8)
    return DeepLabV3Plus(
        backbone=small,
        num_classes=5,
        aspp_channels=16,
        multi_grid=None,
        low_level_channels=8,
        decoder_convolutions=((3, 16),),
    ).eval()


def plain_loop(model: DeepLabV3Plus, images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    total = torch.zeros(len(images), 5, height, width)
    for scale in (0.5, 1.0, 1.5):
        size = (int((height - 1) * scale + 1), int((width - 1) * scale + 1))
        scaled = F.interpolate(images, size, mode="bilinear", align_corners=True)
        for mirrored in (False, True):
            logits = model.low_resolution_logits(torch.flip(scaled, [3]) if mirrored else scaled)
            logits = torch.flip(logits, [3]) if mirrored else logits
            total += torch.softmax(F.interpolate(logits, (height, width), mode="bilinear", align_corners=True), 1)
    return total / 6


@torch.no_grad()
@pytest.mark.parametrize("size", [(65, 97), (50, 71)])
@pytest.mark.parametrize("together", [0, 1 << 20])
def test_multi_scale_and_flip_equal_a_plain_loop(
    model: DeepLabV3Plus, size: tuple[int, int], together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_MIRRORED_TOGETHER", together)
    images = torch.randn(2, 3, *size)
    expected = plain_loop(model, images)
    measured = mean_probabilities(model, images, MULTI_SCALE)
    torch.testing.assert_close(measured, expected, atol=1e-5, rtol=0)
    assert torch.allclose(measured.sum(1), torch.ones(()), atol=1e-5)
    assert torch.equal(predict(model, images, MULTI_SCALE), expected.argmax(1))


@torch.no_grad()
def test_one_scale_is_the_argmax_of_the_logits(model: DeepLabV3Plus) -> None:
    images = torch.randn(1, 3, 65, 65)
    assert torch.equal(predict(model, images, Protocol()), model(images).argmax(1))


@torch.no_grad()
def test_an_image_is_predicted_alike_alone_and_in_a_batch(model: DeepLabV3Plus) -> None:
    images = torch.randn(3, 3, 49, 65)
    whole = mean_probabilities(model, images, MULTI_SCALE)
    alone = torch.cat([mean_probabilities(model, image[None], MULTI_SCALE) for image in images])
    torch.testing.assert_close(whole, alone, atol=1e-6, rtol=0)
    assert torch.equal(whole.argmax(1), alone.argmax(1))


@torch.no_grad()
def test_no_full_size_map_of_all_classes_is_made(model: DeepLabV3Plus) -> None:
    images = torch.randn(1, 3, 513, 513)
    passes = run_passes(model, images, Protocol(scales=(0.5, 1.0), flip=True))
    assert [tuple(logits.shape) for logits in passes.logits] == [(1, 5, 65, 65)] * 2 + [(1, 5, 129, 129)] * 2
    bands = list(passes.bands())
    assert len(bands) > 1
    assert all(passes.probabilities(rows).numel() * 4 <= 2 << 20 for rows in bands)


def test_every_protocol_file_is_a_protocol() -> None:
    assert {"single", "single_os8", "single_os16", "ms_os8", "ms_flip_os8"} <= set(protocol_names())
    assert load_protocol("ms_flip_os8") == Protocol(
        output_stride=8, scales=[0.5, 0.75, 1.0, 1.25, 1.5, 1.75], flip=True
    )
    for name in protocol_names():
        load_protocol(name)


def test_an_unknown_protocol_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"'twice' is unknown; there are .*single_os8"):
        load_protocol("twice")
    with pytest.raises(ConfigError, match=r"scales=\[\]"):
        Protocol(scales=())
