"""Data sets, augmentation, sampling and loading; `SegmentationDataModule` hands them to Lightning.

Everything is imported on first use, so that `import atrous.data` costs neither torch nor Lightning.
"""

import os
from typing import TYPE_CHECKING

from atrous.lazy import lazy_names

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

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "camvid": ("CamVid",),
            "cityscapes": ("Cityscapes",),
            "coco": ("CocoVoc",),
            "datamodule": ("SegmentationDataModule",),
            "decoded": ("Decoded",),
            "folder": ("Folder",),
            "repeated": ("Repeated",),
            "shapes": ("Shapes",),
            "spec": ("DatasetSpec",),
            "voc": ("VOC2012",),
        },
    )
