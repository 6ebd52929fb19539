"""The parts of each data set: which archives they are, how one sees that they are done, and what finishes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from atrous.data.listing import read_list
from atrous.data.preparation import sources
from atrous.data.preparation.sbd import Track, convert_sbd, is_converted
from atrous.data.preparation.sources import Archive
from atrous.files import write_text

CAMVID_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a data set.

    Attributes:
        name: as in `parts=[...]`.
        archives: what it is unpacked from.
        finish: what is done after unpacking, given the data root and a progress bar for ids.
        says: what `finish` does, for people.
        is_done: whether the data root has the finished part.
    """

    name: str
    archives: tuple[Archive, ...]
    is_done: Callable[[Path], bool]
    finish: Callable[[Path, Track], None] | None = None
    says: str = ""


def localise_camvid(root: Path, _track: Track = iter) -> None:
    """Rewrite SegNet's lists, whose paths begin with /SegNet/CamVid/, relative to the folder that they lie in."""
    for split in CAMVID_SPLITS:
        path = root / sources.CAMVID.becomes / f"{split}.txt"
        lines = read_list(path, source=f"CamVid {split}")
        short = [" ".join("/".join(Path(name).parts[-2:]) for name in line.split()) for line in lines]
        write_text(path, "".join(f"{line}\n" for line in short))


def _unpacked(*archives: Archive) -> Callable[[Path], bool]:
    return lambda root: all((root / archive.becomes).is_dir() for archive in archives)


def _camvid_is_done(root: Path) -> bool:
    lists = [root / sources.CAMVID.becomes / f"{split}.txt" for split in CAMVID_SPLITS]
    return all(
        path.is_file() and not path.read_text(encoding="utf-8", errors="replace").lstrip().startswith("/")
        for path in lists
    )


def _finish_sbd(root: Path, track: Track) -> None:
    convert_sbd(root / sources.SBD.becomes, root / sources.VOC.becomes, track=track)


def _single(name: str, archive: Archive) -> Part:
    return Part(name=name, archives=(archive,), is_done=_unpacked(archive))


PARTS: Mapping[str, tuple[Part, ...]] = MappingProxyType(
    {
        "voc": (
            _single("voc", sources.VOC),
            Part(
                name="sbd",
                archives=(sources.SBD,),
                is_done=lambda root: is_converted(root / sources.VOC.becomes),
                finish=_finish_sbd,
                says="convert SBD's labels to SegmentationClassAug and write train_aug.txt (10582 ids)",
            ),
        ),
        "camvid": (
            Part(
                name="camvid",
                archives=(sources.CAMVID,),
                is_done=_camvid_is_done,
                finish=localise_camvid,
                says="make the paths in its lists relative to its folder",
            ),
        ),
        "coco": (
            _single("annotations", sources.COCO_ANNOTATIONS),
            _single("val", sources.COCO_VAL),
            _single("train", sources.COCO_TRAIN),
        ),
    }
)
