"""What the rows of a table are compared by, read from an entry of results.json.

`miou`: mean IoU. `iou:CLASS`: IoU of one class. `trimap`: mean IoU in the narrowest band around the objects' outlines
(DeepLabv3+, Figure 5). All are fractions; tables print percent.
"""

import math
from collections.abc import Mapping
from typing import Any

from atrous.errors import ConfigError

_OF_A_CLASS = "iou:"


def check_metric(metric: str, *, where: str) -> None:
    """Refuse a metric that does not exist.

    Raises:
        ConfigError: names what there is.
    """
    if metric not in ("miou", "trimap") and not (metric.startswith(_OF_A_CLASS) and metric != _OF_A_CLASS):
        raise ConfigError(f"{where}: metric={metric!r} is none of miou, trimap and iou:CLASS")


def needs_boundary(metric: str) -> bool:
    """Whether a metric is of the outlines, which are scored only where `boundary=true`."""
    return metric == "trimap"


def class_of(metric: str) -> str | None:
    """The class whose IoU a metric is; None of another metric."""
    return metric.removeprefix(_OF_A_CLASS) if metric.startswith(_OF_A_CLASS) else None


def value_of(entry: Mapping[str, Any], metric: str) -> float | None:
    """The value of a metric, 0 to 1; None where the entry does not have it, or nothing was labelled (NaN).

    Args:
        entry: one protocol's entry of results.json.
        metric: as above.
    """
    if metric == "trimap":
        found = (entry.get("boundary", {}).get("trimap_miou") or [None])[0]
    elif metric == "miou":
        found = entry.get("miou")
    else:
        found = entry.get("iou", {}).get(metric.removeprefix(_OF_A_CLASS))
    return None if found is None or math.isnan(found) else float(found)


def title_of(metric: str) -> str:
    """A metric in words."""
    if metric.startswith(_OF_A_CLASS):
        return f"IoU of {metric.removeprefix(_OF_A_CLASS)}"
    return {"miou": "mIoU", "trimap": "mIoU in the narrowest band around the outlines"}[metric]
