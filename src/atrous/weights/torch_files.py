"""Files of torch.save, read as tensors and plain values, never as code."""

from __future__ import annotations

import errno
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from atrous.errors import CheckpointError, UnreachableError
from atrous.hardware import is_memory_full

TORCH_FILES = (".pth", ".pt")


def read_torch(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """Return the mapping in a file whose sums are right, which `torch.load` does not look at.

    Args:
        path: of the file.
        map_location: as for `torch.load`.

    Raises:
        UnreachableError: it cannot be read now: no permission, no memory, a file system that is away.
        CheckpointError: not there, damaged, not made of tensors and plain values, or no mapping.
    """
    try:
        path.open("rb").close()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise CheckpointError(f"{path}: no such file ({error.strerror})") from None
    except OSError as error:
        raise UnreachableError(f"{path}: cannot be read now ({error.strerror})") from None
    if _is_archive(path) and _is_damaged(path):  # what is older than torch 1.6 is no archive and has no sums
        raise CheckpointError(
            f"{path}: damaged: the sums (CRC-32) of its content are wrong. If it was saved with "
            "torch.serialization.set_crc32_options(False), torch.load and torch.save it once with right ones"
        )
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        reason = _reason(error)
        is_damaged = _is_damaged(path)
        if is_memory_full(error) and not is_damaged:
            raise UnreachableError(f"{path}: there is not enough memory to read it ({reason})") from error
        if isinstance(error, OSError) and not is_damaged:
            raise UnreachableError(f"{path}: cannot be read now ({reason})") from error
        raise CheckpointError(f"{path}: not a file of tensors and plain values, or not whole ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds {type(content).__name__}; expected a mapping of names to tensors")
    return content


def _reason(error: Exception) -> str:
    """What torch.load says, without its advice to run what is in the file."""
    text = str(error) or type(error).__name__
    found = re.search(r"WeightsUnpickler error:\s*([^\n]+?)(?:\. |\.?\n|\.?$)", text)
    return found[1] if found else text.splitlines()[0]


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:  # it has the end of one, in which something is wrong
        raise CheckpointError(f"{path}: damaged: {error}") from None


def _is_damaged(path: Path) -> bool:
    """Whether a file is none of torch.save, or its sums are wrong; to tell takes little memory.

    A damaged file may ask for any amount of memory when it is loaded, so a full memory alone says nothing of it.

    Raises:
        UnreachableError: it cannot be read now; not where the disk says that it is broken.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is not None
    except MemoryError:
        return False
    except OSError as error:
        if error.errno in (errno.EIO, errno.EINVAL):
            return True
        raise UnreachableError(f"{path}: cannot be read now ({error.strerror})") from None
    except Exception:  # what is no archive may raise anything
        return True
