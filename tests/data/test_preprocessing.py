"""Normalisation against plain numpy in double precision."""

import numpy as np
import pytest
import torch

from atrous.data.preprocessing import Preprocessing
from atrous.errors import ConfigError


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("name", ["inception", "rgb_mean", "imagenet"])
def test_values_are_those_of_the_definition_and_padding_is_zero(name: str, channels_last: bool) -> None:
    images = torch.randint(0, 256, (2, 3, 7, 9), dtype=torch.uint8)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    x = images.numpy().astype(np.float64)
    rgb = {
        "inception": x * 2 / 255 - 1,
        "rgb_mean": x - np.array([123.15, 115.90, 103.06]).reshape(3, 1, 1),
        "imagenet": (x / 255 - np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1))
        / np.array([0.229, 0.224, 0.225]).reshape(3, 1, 1),
    }[name]
    rgb[0, :, 5:], rgb[0, :, :, 4:] = 0, 0
    result = Preprocessing.named(name).normalise(images, torch.tensor([[5, 4], [7, 9]], dtype=torch.int32))
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(result.numpy(), rgb, atol=2e-5, rtol=1e-6)
    assert (result[0, :, 5:] == 0).all()
    assert (result[0, :, :, 4:] == 0).all()


def test_the_input_is_left_as_it_was() -> None:
    images = torch.full((1, 3, 2, 2), 9, dtype=torch.uint8)
    Preprocessing.named("imagenet").normalise(images, torch.tensor([[2, 1]]))
    assert (images == 9).all()


def test_an_unknown_name_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(
        ConfigError, match="preprocessing='caffe' is unknown; choose one of inception, rgb_mean, imagenet"
    ):
        Preprocessing.named("caffe")
