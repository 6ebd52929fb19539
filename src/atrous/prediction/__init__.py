"""Any checkpoint as a predictor, what is written of its predictions, and its export; every name is imported lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atrous.lazy import lazy_names

if TYPE_CHECKING:
    from atrous.prediction.description import Description
    from atrous.prediction.loading import load
    from atrous.prediction.predictor import Predictor
    from atrous.prediction.result import Prediction

__all__ = ["Description", "Prediction", "Predictor", "load"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "description": ("Description",),
            "loading": ("load",),
            "predictor": ("Predictor",),
            "result": ("Prediction",),
        },
    )
