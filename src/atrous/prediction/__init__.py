"""Any checkpoint as a predictor, what is written of its predictions, and its export; every name is imported lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atrous.prediction.description import Description
    from atrous.prediction.loading import load
    from atrous.prediction.predictor import Predictor
    from atrous.prediction.result import Prediction

__all__ = ["Description", "Prediction", "Predictor", "load"]

_FILES = {"Description": "description", "Prediction": "result", "Predictor": "predictor", "load": "loading"}


def __getattr__(name: str) -> object:
    """Import the file that holds a name when the name is first asked for."""
    from importlib import import_module

    if name in _FILES:
        return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the lazy names."""
    return sorted(__all__)
