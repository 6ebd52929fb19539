"""What is made again in the backward pass is made with the settings of the forward pass.

Another output stride, or evaluation, may be set between the two. Gradients would be those of another network then: a
rate leaves the size of a map as it is, so that nothing else would notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

_NAMES = ("stride", "dilation", "padding", "training")


class HeldSettings:
    """The strides, rates and modes that modules have now.

    Args:
        modules: Of a part of a network.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._held = [(module, _settings(module)) for module in modules]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Give them back to the modules here, however they are set by now."""
        before = [(module, _settings(module)) for module, _ in self._held]
        _set(self._held)
        try:
            yield
        finally:
            _set(before)


def as_set_now(conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """Return what convolves as `conv` does now, whatever stride and rate it has when that is called."""
    settings = HeldSettings([conv])

    def convolve(x_NCHW: Tensor) -> Tensor:
        with settings.used():
            return conv(x_NCHW)  # type: ignore[no-any-return]

    return convolve


def _settings(module: nn.Module) -> dict[str, Any]:
    own = vars(module)
    return {name: own[name] for name in _NAMES if name in own}


def _set(settings: Iterable[tuple[nn.Module, dict[str, Any]]]) -> None:
    for module, values in settings:
        vars(module).update(values)
