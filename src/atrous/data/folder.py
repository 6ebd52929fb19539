"""Your own data: a folder of images, a folder of masks and a class list."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atrous.data.class_list import ClassList
from atrous.data.dataset import Pair, PairList
from atrous.data.files import IMAGE_ENDS, OTHER_IMAGE_ENDS, Pixels, check_labels, read_mask
from atrous.data.listing import check_limit, existing_root, found_in, names_in, read_list
from atrous.data.mask_colours import ColourTable
from atrous.errors import ArgumentError, DataError


class Folder(PairList):
    """Images and masks of one's own, in either of two layouts.

    Split by folders: images/train/a.jpg with masks/train/a.png, images/val/b.jpg with masks/val/b.png.
    Split by lists: splits/train.txt and splits/val.txt name the images, one a line, as `a` or `a.jpg`; images/a.jpg,
    masks/a.png. The lists decide where both are there.

    An image is a file that ends as `IMAGE_ENDS` do. A split by folders has as many masks as images.

    A mask is an 8-bit PNG of palette or gray indices, or an RGB one when every class has a colour. Then a palette or
    gray mask that shows the classes' colours is read by them as well, see `ColourTable.by_colour`.

    Args:
        root: the folder that holds images and masks.
        split: any name that has a list or a folder, or several joined by +.
        classes: the class list: a YAML file's path, from here or from `root`, or its content (see `ClassList`).
        limit: use only the first so many images, in the order of the list or of their names.

    Raises:
        ConfigError: the limit is impossible, or a split is joined with itself.
        DataError: the class list is wrong, a folder, list, image or mask is missing, a mask has no image, or an image's
            name is ambiguous.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        classes: str | Path | Sequence[Any] | Mapping[str, Any],
        limit: int | None = None,
    ) -> None:
        check_limit(limit)
        home = existing_root(root, source="your data", holds="images and masks")
        class_list = ClassList(classes, root=home)
        pairs = [pair for part in _parts(split) for pair in _pairs(home, part)]
        source, listed = f"{class_list.spec.name} {split}", _has_lists(home)
        super().__init__(spec=class_list.spec, pairs=pairs[:limit], source=source, listed=listed)
        self.split = split
        self._colours = ColourTable(class_list) if class_list.label_of else None
        self.reading = str(sorted(class_list.label_of.items())) if class_list.label_of else ""

    def _decode(self, mask_path: str) -> Pixels:
        mask = read_mask(mask_path, colours=True)
        if mask.ndim == 2:
            if self._colours is not None and (labels := self._colours.by_colour(mask, path=mask_path)) is not None:
                return labels
            check_labels(
                mask,
                num_classes=self.spec.num_classes,
                ignored=(self.spec.ignore_label,),
                name=self.spec.name,
                path=mask_path,
            )
            return mask
        if self._colours is None:
            raise DataError(
                f"mask {mask_path!r} is an RGB PNG, but the classes of {self.spec.name!r} have no colours; give every "
                "class one in the class list, or save the masks as indices"
            )
        return self._colours.labels(mask, path=mask_path)


def _parts(split: str) -> list[str]:
    parts = split.split("+")
    if len(set(parts)) < len(parts):
        raise ArgumentError(
            f"split={split!r} names {max(parts, key=parts.count)!r} twice; join splits that differ by +"
        )
    return parts


def _has_lists(home: Path) -> bool:
    return (home / "splits").is_dir()


def _pairs(home: Path, split: str) -> list[Pair]:
    images, masks, lists = home / "images", home / "masks", home / "splits"
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(
                f"your data: expected the folder {folder.name} in data.root={str(home)!r}; {found_in(home)}"
            )
    if _has_lists(home):
        names, prefix = list(map(_stem, read_list(lists / f"{split}.txt", source=f"your data, {split}"))), ""
    elif (images / split).is_dir():
        images, masks, prefix = images / split, masks / split, f"{split}/"
        names = sorted(_by_stem(images))
        if not names:
            raise DataError(f"your data, {split}: expected images ({', '.join(IMAGE_ENDS)}); {found_in(images)}")
        _refuse_leftovers(images, masks, set(names), split)
    else:
        raise DataError(
            f"your data, {split}: expected the list {str(lists / f'{split}.txt')!r} or the folder "
            f"{str(images / split)!r}; {found_in(images)}"
        )
    files = _image_files(images, names)
    return [Pair(f"{prefix}{name}", image, f"{masks}/{name}.png") for name, image in zip(names, files, strict=True)]


def _refuse_leftovers(images: Path, masks: Path, names: set[str], split: str) -> None:
    """Refuse what was meant to be an image of the split and is none: the scores would be those of the others alone."""
    unread = sorted(name for name in _visible(images) if name.lower().endswith(OTHER_IMAGE_ENDS))
    if unread:
        raise DataError(
            f"your data, {split}: {unread[0]!r} in {str(images)!r} is an image that is not read ({len(unread)} in all)"
            f"; convert it to one of {', '.join(IMAGE_ENDS)}, or move it elsewhere"
        )
    alone = sorted(name for name in _visible(masks) if name.endswith(".png") and name[:-4] not in names)
    if alone:
        raise DataError(
            f"your data, {split}: mask {alone[0]!r} in {str(masks)!r} has no image ({len(alone)} such masks); add "
            f"{alone[0][:-4]!r} with one of {', '.join(IMAGE_ENDS)} to {str(images)!r}, or move the mask elsewhere"
        )
    for folder in (images, masks):
        deeper = sorted(name for name in _visible(folder) if _holds_images(folder / name))
        if deeper:
            raise DataError(
                f"your data, {split}: the folder {deeper[0]!r} in {str(folder)!r} is not looked into; move its images "
                f"and masks up, or name all images of the split in {split}.txt in a folder splits, a line each"
            )


def _holds_images(path: Path) -> bool:
    return path.is_dir() and any(name.lower().endswith(IMAGE_ENDS) for name in names_in(path))


def _visible(folder: Path) -> set[str]:
    """What lies in a folder, without hidden files, which are neither images nor masks."""
    return {name for name in names_in(folder) if not name.startswith(".")}


def _image_files(images: Path, names: Sequence[str]) -> list[str]:
    """Find the image of each name; one that does not exist gets the name that it might have."""
    folders: dict[str, dict[str, list[str]]] = {}
    files = []
    for name in names:
        below, _, stem = name.rpartition("/")
        folder = images / below
        if below not in folders:
            folders[below] = _by_stem(folder)
        candidates = folders[below].get(stem, [f"{stem}{IMAGE_ENDS[0]}"])
        if len(candidates) > 1:
            both = " and ".join(sorted(candidates))
            raise DataError(f"image {name!r} is ambiguous: there are {both} in {str(folder)!r}; keep one")
        files.append(f"{folder}/{candidates[0]}")
    return files


def _by_stem(folder: Path) -> dict[str, list[str]]:
    """The image files of a folder by their name without its end."""
    files: dict[str, list[str]] = {}
    for name in _visible(folder):
        if name.lower().endswith(IMAGE_ENDS):
            files.setdefault(_stem(name), []).append(name)
    return files


def _stem(name: str) -> str:
    return name[: -len(Path(name).suffix)] if name.lower().endswith(IMAGE_ENDS) else name
