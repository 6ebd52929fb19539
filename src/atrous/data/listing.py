"""What lies in a folder and what a list names, with errors that say what was expected and what was found."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from atrous.errors import ArgumentError, DataError
from atrous.files import at_home


def existing_root(root: str | Path, *, source: str, holds: str) -> Path:
    """Return a data set's folder, with ~ for the home folder.

    Args:
        root: data.root.
        source: which data set, for messages.
        holds: what must lie in it, for messages.

    Raises:
        DataError: there is no such folder.
    """
    folder = at_home(root)
    if not folder.is_dir():
        raise DataError(f"{source}: data.root={str(folder)!r} does not exist; it must be the folder that holds {holds}")
    return folder


def read_list(path: Path, *, source: str, advice: str = "") -> list[str]:
    """Read a split's list: one sample per line; blank lines are skipped.

    Args:
        path: the list file.
        source: which data set and split, for messages.
        advice: what to do when the list does not exist.

    Returns:
        The stripped lines.

    Raises:
        DataError: the file does not exist, names nothing or is not text.
    """
    if not path.is_file():
        raise DataError(f"{source}: expected the list {str(path)!r}; {found_in(path.parent, '*.txt')}{advice}")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: the list {str(path)!r} is damaged: not UTF-8 ({error})") from error
    if not lines:
        raise DataError(f"{source}: the list {str(path)!r} is empty; it must name one sample per line")
    return lines


def split_parts(split: str, known: Iterable[str], *, source: str) -> list[str]:
    """Return the splits that `split` joins with "+", such as train+val.

    Raises:
        ArgumentError: one of them is unknown, or stands there twice.
    """
    parts, choices = split.split("+"), list(known)
    if not set(parts) <= set(choices) or len(set(parts)) < len(parts):
        raise ArgumentError(
            f"split={split!r} is not a split of {source}; choose one of {', '.join(choices)}, or several that "
            "differ, joined by +"
        )
    return parts


def check_limit(limit: int | None) -> None:
    """Refuse a `limit` by which a list cannot be cut to its first images.

    Raises:
        ArgumentError: it is neither None nor a whole number from 1 on.
    """
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ArgumentError(f"limit={limit!r}: null for all images, or a whole number of at least 1")


def refuse_repeated(names: Sequence[str], images: Sequence[str], *, source: str) -> None:
    """Refuse a name that stands for several entries of a list: an evaluation would count each of them.

    Args:
        names: of the entries.
        images: their files.
        source: which data set and split, for messages.

    Raises:
        DataError: names one, and its files where they differ.
    """
    if len(set(names)) == len(names):
        return
    name, times = Counter(names).most_common(1)[0]
    files = sorted({image for of, image in zip(names, images, strict=True) if of == name})
    what = (
        f"is listed {times} times" if len(files) == 1 else f"is the name of several images ({' and '.join(files[:2])})"
    )
    raise DataError(
        f"{source}: {name!r} {what}; list an image once, under a name of its own (for a training that sees images of "
        "some classes more often there is data.bootstrap)"
    )


def names_in(folder: Path) -> set[str]:
    """Return the names of what lies in a folder; none when the folder does not exist."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries}


def found_in(folder: Path, pattern: str = "*") -> str:
    """Say in a few words what a folder holds, for error messages."""
    if not folder.is_dir():
        return f"the folder {str(folder)!r} does not exist"
    names = sorted(path.name for path in folder.glob(pattern))
    if not names:
        return f"found nothing{'' if pattern == '*' else f' like {pattern}'} in {str(folder)!r}"
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return f"found {shown} in {str(folder)!r}"


def require_files(paths: Sequence[str], *, kind: str, source: str, listed: bool = True) -> None:
    """Check that files exist, with one directory listing per folder instead of one look per file.

    Args:
        paths: the files.
        kind: image or mask, for messages.
        source: which data set and split, for messages.
        listed: whether a list names them; otherwise a mask is missed because its image is there.

    Raises:
        DataError: names the first missing file, how many are missing and what its folder holds.
    """
    listings: dict[str, set[str]] = {}
    missing: list[str] = []
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder not in listings:
            listings[folder] = names_in(Path(folder))
        if name not in listings[folder]:
            missing.append(path)
    if missing:
        what, kinds = ("is listed but does not exist", f"listed {kind}s") if listed else ("does not exist", f"{kind}s")
        advice = "complete the folder or correct the list" if listed else "add it, or move its image elsewhere"
        raise DataError(
            f"{source}: {kind} {missing[0]!r} {what} ({len(missing)} of {len(paths)} {kinds} are missing; "
            f"{found_in(Path(missing[0]).parent)}); {advice}"
        )
