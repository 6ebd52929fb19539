"""Files of a prediction: overlay, palette PNG, probabilities, class shares; each written atomically."""

from __future__ import annotations

import errno
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.lib import format as npy
from PIL import Image

from atrous.data.files import Pixels
from atrous.data.spec import DatasetSpec
from atrous.errors import DataError
from atrous.files import write_atomically, write_bytes, write_json
from atrous.prediction.result import Prediction

_JPEG_QUALITY, _JPEG_SIDE = 92, 65500


class InputError(DataError):
    """A file that cannot be written of this input, while those of others can."""


class TooLargeError(InputError):
    """A picture that its format cannot hold."""


def write_prediction(prediction: Prediction, outputs: Mapping[str, Path], *, source: Path) -> None:
    """Write what is wanted of a prediction.

    Args:
        prediction: of one image.
        outputs: file by kind: overlay (.jpg or .png), labels (.png), probabilities (.npz), json.
        source: the image, named in the JSON.

    Raises:
        InputError: the overlay is larger than its format allows, or a name is too long; the other files are written.
        DataError: a file cannot be written.
    """
    first: InputError | None = None
    for kind, path in outputs.items():
        try:
            _write(kind, path, prediction, source)
        except InputError as error:
            first = first or error
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise DataError(f"{path} cannot be written ({error.strerror or error})") from None
            first = first or InputError(
                f"{path} cannot be written: its name is too long there ({len(os.fsencode(path.name))} bytes, and some "
                f"are needed while it is written); give {str(source)!r} a shorter one"
            )
    if first is not None:
        raise first


def _write(kind: str, path: Path, prediction: Prediction, source: Path) -> None:
    if kind == "overlay":
        write_picture(path, prediction.overlay())
    elif kind == "labels":
        write_labels(path, prediction.labels, prediction.spec)
    elif kind == "probabilities":
        write_probabilities(path, prediction)
    else:
        height, width = prediction.labels.shape
        facts = {"image": str(source), "height": height, "width": width, "shares": prediction.shares()}
        write_json(path, facts)


def write_picture(path: Path, image: Pixels) -> None:
    """Write an RGB image [H, W, 3]; the name's ending decides the format.

    Raises:
        TooLargeError: the format does not hold it.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix in (".jpg", ".jpeg") else []
    try:
        is_encoded, data = cv2.imencode(path.suffix, image[..., ::-1], options)
    except cv2.error:
        is_encoded = False
    if not is_encoded:
        height, width = image.shape[:2]
        raise TooLargeError(
            f"{path} cannot be written: {width}x{height} pixels (width x height) are more than OpenCV puts into "
            f"{path.suffix} (a JPEG has at most {_JPEG_SIDE} a side); leave overlay out of save="
        )
    write_bytes(path, data.tobytes())


def write_labels(path: Path, labels: Pixels, spec: DatasetSpec) -> None:
    """Write labels [H, W] as an 8-bit palette PNG whose indices are the labels, as VOC's masks are."""
    picture = Image.frombytes("P", labels.shape[::-1], labels.tobytes())
    picture.putpalette([channel for colour in spec.palette for channel in colour])
    write_atomically(path, lambda stream: picture.save(stream, format="PNG"))


def write_probabilities(path: Path, prediction: Prediction) -> None:
    """Write `probabilities` float16 [H, W, classes] and `classes` as an .npz, a band of rows at a time."""
    shape = (*prediction.labels.shape, len(prediction.classes))

    def write(stream: BinaryIO) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("probabilities.npy", "w", force_zip64=True) as entry:
                npy.write_array_header_1_0(entry, {"descr": "<f2", "fortran_order": False, "shape": shape})
                for band in prediction.probability_bands():
                    entry.write(np.ascontiguousarray(band, "<f2").tobytes())
            with archive.open("classes.npy", "w") as entry:
                npy.write_array(entry, np.array(prediction.classes))

    write_atomically(path, write)
