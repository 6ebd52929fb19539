"""Rows of a resized map against PyTorch's resize of the whole."""

import pytest
import torch
import torch.nn.functional as F

from atrous.evaluation.bands import Passes, resized_rows


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    ("source", "target"),
    [((9, 13), (65, 97)), ((33, 20), (129, 50)), ((7, 7), (7, 7)), ((1, 1), (5, 6)), ((20, 9), (11, 9))],
)
def test_bands_put_together_are_the_whole_resized_map(
    source: tuple[int, int], target: tuple[int, int], align_corners: bool
) -> None:
    maps = torch.randn(2, 3, *source, generator=torch.Generator().manual_seed(1))
    whole = F.interpolate(maps, target, mode="bilinear", align_corners=align_corners)
    for height in (1, 4, target[0]):
        tops = range(0, target[0], height)
        bands = [slice(top, min(top + height, target[0])) for top in tops]
        parts = [resized_rows(maps, rows, target, align_corners=align_corners) for rows in bands]
        torch.testing.assert_close(torch.cat(parts, 2), whole, atol=2e-6, rtol=0)


def test_the_height_of_a_band_does_not_change_a_value() -> None:
    maps = torch.randn(1, 4, 33, 33)
    whole = resized_rows(maps, slice(0, 257), (257, 257), align_corners=True)
    rows = [resized_rows(maps, slice(row, row + 1), (257, 257), align_corners=True) for row in range(257)]
    assert torch.equal(torch.cat(rows, 2), whole)


def test_bands_cover_every_row_once() -> None:
    passes = Passes([torch.zeros(1, 21, 65, 65)], (1000, 1025), align_corners=True)
    assert [row for rows in passes.bands() for row in range(rows.start, rows.stop)] == list(range(1000))
    assert [row for rows in passes.bands(77) for row in range(rows.start, rows.stop)] == list(range(77))


def test_a_device_other_than_the_cpu_takes_a_batch_in_few_bands() -> None:
    on_cpu, elsewhere = (
        Passes([torch.zeros(16, 21, 33, 33, device=device)], (513, 513), align_corners=True)
        for device in ("cpu", "meta")
    )
    assert len(list(on_cpu.bands())) == 171
    assert len(list(elsewhere.bands())) == 6


def test_probabilities_are_the_mean_over_passes_and_labels_their_largest() -> None:
    logits = [torch.randn(2, 6, 9, 9) for _ in range(3)]
    passes = Passes(logits, (17, 17), align_corners=True)
    full = [F.interpolate(each, (17, 17), mode="bilinear", align_corners=True).softmax(1) for each in logits]
    expected = torch.stack(full).mean(0)
    torch.testing.assert_close(passes.probabilities(slice(0, 17)), expected, atol=1e-6, rtol=0)
    assert torch.equal(passes.labels(slice(3, 9)), expected.argmax(1)[:, 3:9])
    torch.testing.assert_close(passes.image(1).probabilities(slice(0, 17)), expected[1:], atol=1e-6, rtol=0)
