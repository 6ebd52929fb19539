"""Files for the test servers of PASCAL VOC and Cityscapes: predictions as PNG in the archive that a server takes.

VOC 2012 (development kit, "Submission of Results"): results/VOC2012/Segmentation/comp6_test_cls/ID.png, indexed images
in VOC's palette; comp6 is the competition in which any training data may be used.
Plain: ID.png of any data set, the class as the pixel's value, in VOC's palette; no server takes it, but tables at a
small scale write what their rows write at full size.
Cityscapes (cityscapesScripts, `getPrediction` and the maintainers in mcordts/cityscapesScripts#65): exactly one PNG of
label ids per test image, named CITY_SEQUENCE_FRAME*.png.
"""

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data.cityscapes_labels import CITYSCAPES_SPEC, to_label_ids
from atrous.data.dataset import SegmentationDataset
from atrous.data.pillow import voc_picture
from atrous.data.spec import VOC_SPEC, DatasetSpec
from atrous.errors import DataError
from atrous.files import write_atomically

Labels = NDArray[np.integer[Any]]


def _cityscapes_png(labels: Labels) -> Image.Image:
    return Image.fromarray(to_label_ids(labels))


@dataclass(frozen=True, kw_only=True)
class Server:
    """What a test server takes.

    Attributes:
        spec: the label space of the predictions; None for any.
        file_name: where an image's prediction lies in the archive; "{id}" stands for its name.
        ids: what names of images look like.
        draw: makes the picture.
    """

    spec: DatasetSpec | None
    file_name: str
    ids: re.Pattern[str]
    draw: Callable[[Labels], Image.Image]


SERVERS: Mapping[str, Server] = MappingProxyType(
    {
        "voc": Server(
            spec=VOC_SPEC,
            file_name="results/VOC2012/Segmentation/comp6_test_cls/{id}.png",
            ids=re.compile(r"\d{4}_\d{6}"),
            draw=voc_picture,
        ),
        "cityscapes": Server(
            spec=CITYSCAPES_SPEC,
            file_name="{id}_pred.png",
            ids=re.compile(r"[a-z-]+_\d{6}_\d{6}"),
            draw=_cityscapes_png,
        ),
        "plain": Server(spec=None, file_name="{id}.png", ids=re.compile(r".+"), draw=voc_picture),
    }
)


def check_submission(dataset: SegmentationDataset, server: Server) -> None:
    """Refuse a data set that a server does not score, before anything is predicted.

    Raises:
        DataError: other classes, a name that the server does not know, or a test split that is not complete.
    """
    spec = server.spec or dataset.spec
    if dataset.spec.classes != spec.classes:
        raise DataError(
            f"submission: the server of {spec.name} takes its {spec.num_classes} classes, but the data "
            f"set is {dataset.spec.name!r} with {dataset.spec.num_classes}"
        )
    ids = [dataset.sample_id(index) for index in range(len(dataset))]
    wrong = [name for name in ids if not server.ids.fullmatch(name)]
    if wrong:
        raise DataError(f"submission: {wrong[0]!r} is not a name of {spec.name} ({len(wrong)} of {len(ids)})")
    if len(set(ids)) < len(ids):
        raise DataError(f"submission: {len(ids) - len(set(ids))} images are listed twice; the server takes each once")
    official = getattr(dataset, "official_count", None)
    if getattr(dataset, "split", None) == "test" and official is not None and official != len(ids):
        raise DataError(
            f"submission: {spec.name} test has {official} images, but {len(ids)} are here; the server wants all "
            "of them (is data.val.limit set?)"
        )


def write_submission(
    path: Path,
    predictions: Iterable[tuple[str, tuple[int, int], Labels]],
    *,
    server: Server,
    ids: Iterable[str],
) -> int:
    """Write the archive; it is checked while it is written, and nothing is left behind if a check fails.

    Args:
        path: the .zip file.
        predictions: (name, (height, width) of the image, labels [H, W]) of every image.
        server: what the archive has to look like.
        ids: the images that must be in it, each once.

    Returns:
        The number of images.

    Raises:
        DataError: a prediction has another size than its image or a label that is no class, or an image is missing.
    """
    wanted, written = set(ids), set[str]()

    def write(stream: BinaryIO) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:  # a PNG is compressed already
            for name, size, labels in predictions:
                _check(name, size, labels, server, wanted - written)
                archive.writestr(server.file_name.format(id=name), _encoded(server.draw(labels)))
                written.add(name)
        if missing := sorted(wanted - written):
            raise DataError(f"submission: {len(missing)} images have no prediction, the first is {missing[0]!r}")

    write_atomically(path, write)
    return len(written)


def _check(name: str, size: tuple[int, int], labels: Labels, server: Server, open_names: set[str]) -> None:
    if name not in open_names:
        raise DataError(f"submission: {name!r} is not in the split, or was predicted twice")
    if labels.shape != tuple(size):
        raise DataError(f"submission: the prediction of {name!r} is {labels.shape}, its image {tuple(size)}")
    if labels.min() < 0 or (server.spec is not None and labels.max() >= server.spec.num_classes):
        classes = (
            "" if server.spec is None else f"; the classes of {server.spec.name} are 0..{server.spec.num_classes - 1}"
        )
        raise DataError(
            f"submission: the prediction of {name!r} holds {int(labels.min())}..{int(labels.max())}{classes}"
        )


def _encoded(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
