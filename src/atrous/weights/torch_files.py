"""Files of torch.save, read as tensors and plain values, never as code."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from atrous.errors import CheckpointError, UnreachableError
from atrous.hardware import is_memory_full


def read_torch(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """Return the mapping in a file.

    Args:
        path: of the file.
        map_location: as for `torch.load`.

    Raises:
        UnreachableError: it cannot be opened: no permission, too many open files, a file system that is away.
        CheckpointError: damaged, not made of tensors and plain values, or no mapping.
        MemoryError, RuntimeError: it is whole, and there is no memory for it.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise UnreachableError(f"{path}: cannot be opened ({error.strerror})") from None
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        if is_memory_full(error) and _is_whole(path):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: not a file of tensors and plain values, or not whole ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds {type(content).__name__}; expected a mapping of names to tensors")
    return content


def _is_whole(path: Path) -> bool:
    """Whether a file's sums are right, which takes little memory; a damaged one may ask for any amount."""
    with suppress(Exception), zipfile.ZipFile(path) as archive:
        return archive.testzip() is None
    return False
