"""The augmented VOC training set: SBD's labels (Hariharan et al., 2011) as PNG masks and the list of 10,582 ids.

The rule of the list: all images of SBD and of VOC's train, without those of VOC's val. VOC's own masks are used where
there are some; SBD's are converted for the others.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from atrous.data.files import Pixels, check_labels, image_size
from atrous.data.listing import names_in, read_list, require_files
from atrous.data.pillow import voc_picture
from atrous.data.spec import VOC_SPEC
from atrous.errors import DataError
from atrous.files import folder_made_whole, write_text

AUGMENTED_IMAGES = 10582
_LIST, _MASKS = "train_aug.txt", "SegmentationClassAug"
_MAT_HEADER, _MAT_COMPRESSED = 128, 15  # bytes; miCOMPRESSED of MATLAB's MAT-file format, level 5
Track = Callable[[Sequence[str]], Iterable[str]]


def is_converted(voc: Path) -> bool:
    """Tell whether a VOC2012 folder has the augmented set; the list is written last."""
    return (voc / "ImageSets" / "Segmentation" / _LIST).is_file() and (voc / _MASKS).is_dir()


def convert_sbd(sbd: Path, voc: Path, *, expected: int | None = AUGMENTED_IMAGES, track: Track = iter) -> int:
    """Write SegmentationClassAug and train_aug.txt into a VOC2012 folder.

    Masks that an earlier call has converted, all of them, stay; the caller makes sure that only one is at it.

    Args:
        sbd: the folder with cls/, train.txt and val.txt (benchmark_RELEASE/dataset).
        voc: the VOC2012 folder.
        expected: how many ids the list must have; None accepts any number.
        track: wraps the ids of the masks to convert, for a progress bar.

    Returns:
        Number of ids in the list.

    Raises:
        DataError: a list, an image or a label file is missing or damaged, or the number of ids is not the expected one.
            A half-made folder is never left.
    """
    lists = voc / "ImageSets" / "Segmentation"
    official = read_list(lists / "train.txt", source="VOC 2012 train")
    ids = augmented_ids(
        sbd=[name for split in ("train", "val") for name in read_list(sbd / f"{split}.txt", source=f"SBD {split}")],
        voc_train=official,
        voc_val=read_list(lists / "val.txt", source="VOC 2012 val"),
    )
    if expected is not None and len(ids) != expected:
        raise DataError(
            f"the lists of SBD ({str(sbd)!r}) and VOC ({str(lists)!r}) give {len(ids)} augmented training images; the "
            f"published set has {expected}: one of the lists is not the official one"
        )
    require_files([f"{voc}/JPEGImages/{name}.jpg" for name in ids], kind="image", source="VOC 2012 train_aug")
    own = set(official)
    _convert_all(sbd, voc, [name for name in ids if name not in own], track=track)
    write_text(lists / _LIST, "".join(f"{name}\n" for name in ids))
    return len(ids)


def augmented_ids(*, sbd: Iterable[str], voc_train: Iterable[str], voc_val: Iterable[str]) -> list[str]:
    """Return the sorted ids of the augmented training set: (SBD + VOC train) - VOC val."""
    return sorted(({*sbd} | {*voc_train}) - {*voc_val})


def read_sbd_label(path: Path) -> Pixels:
    """Read a label map of SBD.

    Args:
        path: a file of cls/.

    Returns:
        uint8 [H, W], 0..20; SBD has no void pixels.

    Raises:
        DataError: the file is missing or damaged, or holds other labels.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    damaged = (LookupError, TypeError, ValueError, NotImplementedError, OverflowError, zlib.error, struct.error)
    try:
        _check_sums(path.read_bytes())
        label = loadmat(path, variable_names=["GTcls"])["GTcls"][0, 0]["Segmentation"]
        is_map = label.ndim == 2 and label.size and label.dtype.kind in "iuf"
        with np.errstate(invalid="ignore"):  # NaN, which no byte equals
            is_map = is_map and np.array_equal(label, label.astype(np.uint8))
        if not is_map:
            raise TypeError(f"its Segmentation is no map of labels, but {label.dtype} {list(label.shape)}")
    except (OSError, MatReadError, *damaged) as error:
        raise DataError(
            f"SBD label {str(path)!r} cannot be read ({type(error).__name__}: {error}); unpack benchmark.tgz again"
        ) from error
    label = np.ascontiguousarray(label, dtype=np.uint8)
    check_labels(label, num_classes=VOC_SPEC.num_classes, ignored=(255,), name="SBD", path=str(path))
    return label


def _check_sums(content: bytes) -> None:
    """Check the sums of a MATLAB 5 file's compressed variables: SciPy's reader crashes on some damaged ones.

    Raises:
        ValueError: it is another kind of file, or a variable is not compressed, as SBD's are.
        zlib.error: a sum is wrong.
        struct.error: the file is cut off.
    """
    if not content.startswith(b"MATLAB 5.0"):  # SciPy would take it for one of level 4, which has no sums at all
        raise ValueError("it does not begin as a MATLAB 5 file does")
    order = {b"MI": ">", b"IM": "<"}.get(content[126:128], "<")
    position = _MAT_HEADER
    while position < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        if kind != _MAT_COMPRESSED:
            raise ValueError(f"a variable of kind {kind} where SBD's are compressed")
        zlib.decompress(content[position + 8 : position + 8 + size])
        position += 8 + size


def _convert_all(sbd: Path, voc: Path, names: Sequence[str], *, track: Track) -> None:
    target = voc / _MASKS
    if target.exists():
        there = names_in(target)
        missing = [name for name in names if f"{name}.png" not in there]
        if missing:
            raise DataError(
                f"{str(target)!r} exists already and lacks {len(missing)} of {len(names)} masks ({missing[0]}.png is "
                "the first); move it away to convert SBD again"
            )
        return  # only the list was not written then
    try:
        with folder_made_whole(target) as temporary:
            for name in track(names):
                label = read_sbd_label(sbd / "cls" / f"{name}.mat")
                if label.shape != (size := image_size(voc / "JPEGImages" / f"{name}.jpg")):
                    raise DataError(f"SBD label {name}.mat has {label.shape} rows and columns, its image {size}")
                voc_picture(label).save(temporary / f"{name}.png")
    except OSError as error:
        raise DataError(f"writing masks below {str(voc)!r} failed ({error.strerror or error}); make room?") from error
