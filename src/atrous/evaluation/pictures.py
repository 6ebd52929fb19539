"""Images of an evaluation to look at: the truth, the prediction and where they differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atrous.data.dataset import SegmentationDataset
from atrous.data.files import Pixels
from atrous.data.inspection.overlay import fit, overlay
from atrous.data.inspection.sheet import jpeg
from atrous.data.spec import DatasetSpec
from atrous.evaluation.predicting import Feeding, Progress, predictions, silent
from atrous.evaluation.protocol import Protocol
from atrous.evaluation.records import ImageRecords
from atrous.networks.segmenter import Segmenter

_BOX = 440  # pixels of the longer side on a page
_WRONG = (225, 29, 72)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image.

    Attributes:
        image: uint8 RGB [H, W, 3].
        truth: uint8 [H, W].
        prediction: uint8 [H, W].
    """

    image: Pixels
    truth: Pixels
    prediction: Pixels


def choose(records: ImageRecords, number: int) -> dict[str, list[int]]:
    """Places of the images with the highest, the middle and the lowest mean IoU of their own classes.

    Args:
        records: all images; those without labelled pixels are left out.
        number: of each kind, fewer where there are not enough images.
    """
    score = records.mean_iou
    order = [int(place) for place in np.argsort(-score, kind="stable") if np.isfinite(score[place])]
    number = min(number, max(1, len(order) // 3))
    middle = max(0, (len(order) - number) // 2)
    chosen = {"best": order[:number], "median": order[middle : middle + number], "worst": order[::-1][:number]}
    return {kind: places for kind, places in chosen.items() if places}


def take_pictures(
    model: Segmenter,
    dataset: SegmentationDataset,
    protocol: Protocol,
    feeding: Feeding,
    indices: Sequence[int],
    *,
    on_progress: Progress = silent,
) -> dict[int, Picture]:
    """Predict some images once more.

    Args:
        model: the network.
        dataset: the images.
        protocol: as in the evaluation.
        feeding: as in the evaluation.
        indices: positions in the data set.
        on_progress: told (images done, images in all).

    Returns:
        Pictures by position.
    """
    found: dict[int, Picture] = {}
    places = sorted(set(indices))
    for predicted in predictions(model, dataset, {"": protocol}, feeding, indices=places, on_progress=on_progress):
        batch, labels = predicted.batch, predicted.labels.to("cpu").numpy()
        for place, (index, (height, width)) in enumerate(
            zip(batch["index"].tolist(), batch["extent"].tolist(), strict=True)
        ):
            found[index] = Picture(
                image=batch["image"][place].permute(1, 2, 0)[:height, :width].numpy().copy(),
                truth=batch["label"][place][:height, :width].numpy().copy(),
                prediction=labels[place, :height, :width].astype(np.uint8),
            )
    return found


def error_map(picture: Picture, spec: DatasetSpec) -> Pixels:
    """The image in pale grey, wrong pixels in red; ignored pixels cannot be wrong."""
    grey = picture.image.astype(np.float32).mean(2, keepdims=True).repeat(3, 2) * 0.5 + 110
    wrong = (picture.truth < spec.num_classes) & (picture.truth != picture.prediction)
    grey[wrong] = 0.2 * grey[wrong] + 0.8 * np.asarray(_WRONG, np.float32)
    return np.asarray(np.rint(np.clip(grey, 0, 255)), np.uint8)


def panels(picture: Picture, spec: DatasetSpec) -> list[tuple[str, bytes]]:
    """Image, truth, prediction and errors as JPEG, with their names."""
    shown = {
        "image": picture.image,
        "truth": overlay(picture.image, picture.truth, spec),
        "prediction": overlay(picture.image, picture.prediction, spec),
        "errors": error_map(picture, spec),
    }
    return [(name, small_jpeg(pixels)) for name, pixels in shown.items()]


def small_jpeg(pixels: Pixels) -> bytes:
    """Encode a picture at the size of a page; small ones stay as they are."""
    if max(pixels.shape[:2]) > _BOX:
        pixels = fit(pixels, width=_BOX, height=_BOX)
    return jpeg(pixels, quality=84)
