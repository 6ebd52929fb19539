"""torchmetrics without scipy.signal, which it imports for an audio metric: 62 MiB and half a second less per process.

While torchmetrics is imported, a stand-in is in its place; whoever imports scipy.signal later gets the real one, to
which torchmetrics has not added its old name `hamming`. Lightning imports torchmetrics as well, so that a process that
is to be lean imports this first.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

__all__ = ["MulticlassConfusionMatrix"]
_NAME = "scipy.signal"


class _StandIn(ModuleType):
    """What torchmetrics looks for is there; for everything else it makes room for the real module."""

    hamming = None  # torchmetrics adds it, where it is missing, for the package that computes the audio metric

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name not in ("__path__", "__all__"):  # `inspect` looks at every module's file
            raise AttributeError(name)
        _remove()
        return getattr(import_module(_NAME), name)


@contextmanager
def _spared() -> Iterator[None]:
    if _NAME not in sys.modules:
        sys.modules[_NAME] = _StandIn(_NAME)
    try:
        yield
    finally:
        _remove()


def _remove() -> None:
    if isinstance(sys.modules.get(_NAME), _StandIn):
        del sys.modules[_NAME]


with _spared():
    from torchmetrics.classification import MulticlassConfusionMatrix
