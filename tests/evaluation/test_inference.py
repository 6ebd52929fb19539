"""Multi-scale and flip against a plain loop."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from atrous import DeepLabV3Plus
from atrous.errors import ConfigError
from atrous.evaluation.inference import mean_probabilities, predict
from atrous.evaluation.protocol import Protocol, load_protocol, protocol_names
from atrous.networks import ResNet


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


@torch.no_grad()
def test_probabilities_are_the_mean_over_scales_and_flips(model: DeepLabV3Plus) -> None:
    images = torch.randn(2, 3, 65, 97)
    total = torch.zeros(2, 5, 65, 97)
    for scale in (0.5, 1.0, 1.5):
        size = (int(64 * scale + 1), int(96 * scale + 1))
        scaled = F.interpolate(images, size, mode="bilinear", align_corners=True)
        for mirrored in (False, True):
            logits = model.low_resolution_logits(torch.flip(scaled, [3]) if mirrored else scaled)
            logits = torch.flip(logits, [3]) if mirrored else logits
            total += torch.softmax(F.interpolate(logits, (65, 97), mode="bilinear", align_corners=True), 1)
    measured = mean_probabilities(model, images, Protocol(scales=(0.5, 1.0, 1.5), flip=True))
    torch.testing.assert_close(measured, total / 6, atol=1e-5, rtol=1e-4)
    assert torch.allclose(measured.sum(1), torch.ones(()), atol=1e-5)


@torch.no_grad()
def test_one_scale_is_the_argmax_of_the_logits(model: DeepLabV3Plus) -> None:
    images = torch.randn(1, 3, 65, 65)
    assert torch.equal(predict(model, images, Protocol()), model(images).argmax(1))


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
