"""The outputs of dear convolutions, which a part that is computed twice keeps from its first pass for its second.

What a value costs to make again differs far more than what it takes to keep: with 512 channels a 3x3 convolution sums
4608 products for it, a 1x1 convolution with 256 channels 256. A third of the operations of a ResNet-50 with output
stride 16 make a sixteenth of its convolutions' outputs: those of 2048 products and more.

PyTorch's own selective checkpointing keeps outputs of the operations that it dispatches; a convolution of
`atrous.networks.atrous_convolution` is many of them, so that its output is kept here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

_PRODUCTS = 2048  # that a dear value is the sum of

_Pass = Callable[[Callable[[], Tensor]], Tensor]


class _Local(threading.local):
    ongoing: _Pass | None = None


_local = _Local()


class DearOutputs:
    """What one part keeps from its first pass."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the outputs of what `computed_once` computes here."""

        def keep(compute: Callable[[], Tensor]) -> Tensor:
            output = compute()
            self._kept.append(output.detach())  # autograd's mark on the output itself would lead back to the part
            return output

        with _pass(keep):
            yield

    @contextmanager
    def used(self) -> Iterator[None]:
        """Have `computed_once` return them, in the same order, as often as the pass is made again."""
        outputs = iter(self._kept)
        with _pass(lambda _: next(outputs).detach()):
            yield


def computed_once(weight_OIkk: Tensor, compute: Callable[[], Tensor]) -> Tensor:
    """Return what a convolution computes: from the first pass, where its part is in its second and it is dear.

    Args:
        weight_OIkk: Its kernel [O, I, k, k], which says how dear it is.
        compute: Computes it.
    """
    if _local.ongoing is None or weight_OIkk.shape[1:].numel() < _PRODUCTS:
        return compute()
    return _local.ongoing(compute)


@contextmanager
def _pass(ongoing: _Pass) -> Iterator[None]:
    before, _local.ongoing = _local.ongoing, ongoing
    try:
        yield
    finally:
        _local.ongoing = before
