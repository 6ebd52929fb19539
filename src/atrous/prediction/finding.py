"""The files of a folder or of a glob, through links to folders, but not in circles."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from atrous.files import at_home


def candidates(given: str) -> list[Path]:
    """Find what lies in a folder at any depth, without what is hidden, or what matches a glob; links are followed."""
    path = at_home(given)
    if path.is_dir():
        return [Path(here, name) for here, names in _walk(path) for name in names]
    names = _matching(path) if glob.has_magic(given) else []
    named = len(path.parts)  # a link among these is meant
    if "**" in path.parts:
        named = [glob.has_magic(part) for part in path.parts].index(True)
    leads_back = cache(_leads_back)
    return [
        found for found in names if not any(leads_back(parent) for parent in found.parents if len(parent.parts) > named)
    ]


def _matching(pattern: Path) -> list[Path]:
    """What matches a glob. Python's own ** goes in circles, the more links the longer."""
    if "**" not in pattern.parts:
        return [Path(name) for name in glob.glob(str(pattern))]  # noqa: PTH207  # may be absolute
    at = pattern.parts.index("**")
    before, after = Path(*pattern.parts[:at]), Path(*pattern.parts[at + 1 :] or ("*",))
    places = [Path(here) for start in _matching(before) for here, _ in _walk(start)]
    return list(dict.fromkeys(path for here in places for path in _matching(Path(glob.escape(str(here))) / after)))


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder at any depth, and what else lies in it; without what is hidden, through links, not in circles."""
    for here, below, names in os.walk(folder, followlinks=True):
        below[:] = [name for name in below if not (name.startswith(".") or _leads_back(Path(here, name)))]
        yield here, [name for name in names if not name.startswith(".")]


def _leads_back(path: Path) -> bool:
    """Whether a folder is a link to one on the way to it, through which its files would be found again and again."""
    if not path.is_symlink():
        return False
    target = path.resolve()
    return any(parent.resolve().is_relative_to(target) for parent in path.parents)
