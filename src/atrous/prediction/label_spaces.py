"""The classes that a network was trained on, without a look at the images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atrous.data.cityscapes_labels import CITYSCAPES_SPEC
from atrous.data.class_list import ClassList
from atrous.data.spec import CAMVID_SPEC, VOC_SPEC, DatasetSpec, voc_colour
from atrous.errors import ConfigError

_RELEASED = {"voc2012": VOC_SPEC, "coco_voc": VOC_SPEC, "cityscapes": CITYSCAPES_SPEC}


def spec_of_data(node: Mapping[str, Any]) -> DatasetSpec:
    """Return the label space of a data set from its constructor call in a run's config.

    Raises:
        ConfigError: the data set is none of atrous; nothing is built to find out.
        DataError: the class list of one's own data is gone, or wrong.
    """
    from atrous.data.shapes import SHAPES_SPEC

    known = {"VOC2012": VOC_SPEC, "CocoVoc": VOC_SPEC, "CamVid": CAMVID_SPEC, "Cityscapes": CITYSCAPES_SPEC}
    known["Shapes"] = SHAPES_SPEC
    name = str(node["_target_"]).rsplit(".", 1)[-1]
    if name == "Folder":
        return ClassList(node["classes"], root=Path(str(node["root"]))).spec
    if name not in known:
        raise ConfigError(
            f"data.val._target_={node['_target_']!r}: its classes are not known; atrous.data has "
            f"{', '.join([*known, 'Folder'])}"
        )
    return known[name]


def spec_of_release(dataset: str, num_classes: int) -> DatasetSpec:
    """Return the label space of released weights; classes without a published list here are numbered."""
    known = _RELEASED.get(dataset)
    if known is not None and known.num_classes == num_classes:
        return known
    return DatasetSpec(
        name=dataset,
        classes=tuple(f"class {label}" for label in range(num_classes)),
        palette=tuple(voc_colour(label) for label in range(num_classes)),
    )


def classes_of_release(dataset: str) -> tuple[str, ...] | None:
    """Return the class names of released weights; None where no list is published here."""
    known = _RELEASED.get(dataset)
    return None if known is None else known.classes
