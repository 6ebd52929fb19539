"""Data sets, augmentation, sampling and loading; `SegmentationDataModule` hands them to Lightning.

Everything is imported on first use, so that `import atrous.data` costs neither torch nor Lightning.
"""

import importlib
import os
from typing import TYPE_CHECKING

# albumentations asks PyPI for a newer version while it is imported, unless this is set before.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

if TYPE_CHECKING:
    from atrous.data.camvid import CamVid
    from atrous.data.datamodule import SegmentationDataModule
    from atrous.data.shapes import Shapes
    from atrous.data.spec import DatasetSpec
    from atrous.data.voc import VOC2012

__all__ = ["VOC2012", "CamVid", "DatasetSpec", "SegmentationDataModule", "Shapes"]

_HOME = {
    "VOC2012": "voc",
    "CamVid": "camvid",
    "DatasetSpec": "spec",
    "SegmentationDataModule": "datamodule",
    "Shapes": "shapes",
}


def __getattr__(name: str) -> object:
    """Import a public name from the file it lives in."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
