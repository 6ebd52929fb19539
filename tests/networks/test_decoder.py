"""The decoder's structure as data. Its numbers are checked against the official graph in tests/oracles."""

from __future__ import annotations

import pytest
import torch

from atrous.errors import ConfigError
from atrous.networks.decoder import Decoder

TABLE2 = [((3, 256),), ((3, 256),) * 2, ((3, 256),) * 3, ((3, 128),), ((1, 256),)]


@pytest.mark.parametrize("convolutions", TABLE2)
@pytest.mark.parametrize("low_level_channels", [8, 64])
def test_single_stage_rows_of_tables_1_and_2(
    convolutions: tuple[tuple[int, int], ...], low_level_channels: int
) -> None:
    decoder = Decoder(
        encoder_channels=16,
        low_level_in_channels=8,
        low_level_channels=low_level_channels,
        convolutions=convolutions,
    ).eval()
    refined = decoder(torch.randn(1, 16, 3, 4), torch.randn(1, 8, 9, 13))
    assert refined.shape == (1, convolutions[-1][1], 9, 13)
    kernels = [parameter for parameter in decoder.refine.parameters() if parameter.ndim == 4]
    assert [(weight.shape[-1], weight.shape[0]) for weight in kernels] == list(convolutions)
    assert kernels[0].shape[1] == 16 + low_level_channels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low_level_channels": 0}, "low_level_channels=0 must be at least 1"),
        ({"convolutions": ((2, 256),)}, r"decoder_convolutions: \(2, 256\) must be \(odd kernel size, channels\)"),
        ({"convolutions": ((3, 256, 1),)}, r"\(3, 256, 1\) must be"),
    ],
)
def test_what_cannot_be_built_says_what_can(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Decoder(encoder_channels=4, low_level_in_channels=4, **options)  # type: ignore[arg-type]
