"""Logits resized a band of rows at a time, so that full-size floats of all classes never exist at once.

On a CPU a band is small enough for a core's cache, so softmax and argmax read it from there. On a GPU it is large: 171
bands of a batch of 16 (513x513, 21 classes) took 43 ms on an H100, the network 13.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_CPU_BAND, _GPU_BAND = 2 << 20, 64 << 20  # bytes of one float32 map of all classes


@dataclass(frozen=True)
class Passes:
    """What the network said in every pass (scale, mirror image) over a batch, upright and at the classifier's size.

    Attributes:
        logits: one map [N, classes, h, w] per pass, float32.
        size: (height, width) of the images.
        align_corners: how the network's resizes align their grids.
    """

    logits: Sequence[Tensor]
    size: tuple[int, int]
    align_corners: bool

    def bands(self, height: int | None = None) -> Iterator[slice]:
        """Yield the rows of one band after the other.

        Args:
            height: rows to cover, from the top; all of them by default.
        """
        n, classes = self.logits[0].shape[:2]
        height = self.size[0] if height is None else height
        most = _CPU_BAND if self.logits[0].device.type == "cpu" else _GPU_BAND
        rows = max(1, most // (4 * n * classes * self.size[1]))
        yield from (slice(top, min(top + rows, height)) for top in range(0, height, rows))

    def probabilities(self, rows: slice) -> Tensor:
        """Return the mean of the softmax probabilities of all passes [N, classes, rows, W]."""
        total = self._rows(self.logits[0], rows).softmax(1)
        for logits in self.logits[1:]:
            total += self._rows(logits, rows).softmax(1)
        return total if len(self.logits) == 1 else total.div_(len(self.logits))

    def labels(self, rows: slice) -> Tensor:
        """Return the most likely class [N, rows, W], int64."""
        scores = self._rows(self.logits[0], rows) if len(self.logits) == 1 else self.probabilities(rows)
        # On a CPU, ten times faster than argmax along a dimension that is not the innermost.
        return scores.max(1).indices

    def image(self, index: int) -> Passes:
        """Return the passes of one image of the batch."""
        return Passes([logits[index : index + 1] for logits in self.logits], self.size, self.align_corners)

    def _rows(self, logits: Tensor, rows: slice) -> Tensor:
        return resized_rows(logits, rows, self.size, align_corners=self.align_corners)


def resized_rows(x_NChw: Tensor, rows: slice, size: Sequence[int], *, align_corners: bool) -> Tensor:
    """Return some rows of what `resize_bilinear` returns.

    Args:
        x_NChw: maps [N, C, h, w], float32.
        rows: start and stop within 0..H.
        size: the wanted (H, W).
        align_corners: as for `resize_bilinear`.

    Returns:
        float32 [N, C, rows, W], in PyTorch's default memory format.
    """
    place = _sources(x_NChw.shape[-2], size[0], rows, align_corners=align_corners)
    upper = place.floor().long()
    first, last = int(upper[0]), min(int(upper[-1]) + 1, x_NChw.shape[-2] - 1)
    part = x_NChw[:, :, first : last + 1].contiguous()
    if part.shape[-1] != size[1]:
        part = F.interpolate(part, (part.shape[-2], size[1]), mode="bilinear", align_corners=align_corners)
    if x_NChw.shape[-2] == size[0]:
        return part[:, :, : rows.stop - rows.start]
    below = (upper + 1).clamp(max=last)
    weight = (place - upper)[:, None].to(x_NChw.device)
    above, below = ((row - first).to(x_NChw.device) for row in (upper, below))
    return torch.lerp(part.index_select(2, above), part.index_select(2, below), weight)


def _sources(length: int, target: int, rows: slice, *, align_corners: bool) -> Tensor:
    """Return where in a map of `length` rows each of the `rows` of `target` lies, rounded as F.interpolate rounds."""
    row = torch.arange(rows.start, rows.stop, dtype=torch.float32)
    if align_corners:
        ratio = torch.tensor(float(length - 1)) / max(target - 1, 1)
        place = row * ratio
    else:
        ratio = torch.tensor(float(length)) / target
        place = (ratio * (row + 0.5) - 0.5).clamp(min=0)
    return place.clamp(max=length - 1)
