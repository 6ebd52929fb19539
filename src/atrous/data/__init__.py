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
    from atrous.data.cityscapes import Cityscapes
    from atrous.data.coco import CocoVoc
    from atrous.data.datamodule import SegmentationDataModule
    from atrous.data.decoded import Decoded
    from atrous.data.folder import Folder
    from atrous.data.repeated import Repeated
    from atrous.data.shapes import Shapes
    from atrous.data.spec import DatasetSpec
    from atrous.data.voc import VOC2012

__all__ = [
    "VOC2012",
    "CamVid",
    "Cityscapes",
    "CocoVoc",
    "DatasetSpec",
    "Decoded",
    "Folder",
    "Repeated",
    "SegmentationDataModule",
    "Shapes",
]

_HOME = {
    "VOC2012": "voc",
    "CamVid": "camvid",
    "Cityscapes": "cityscapes",
    "CocoVoc": "coco",
    "DatasetSpec": "spec",
    "Decoded": "decoded",
    "Folder": "folder",
    "Repeated": "repeated",
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
