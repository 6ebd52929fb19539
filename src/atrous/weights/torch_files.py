"""Files of torch.save, read as tensors and plain values, never as code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from atrous.errors import CheckpointError


def read_torch(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """Return the mapping in a file.

    Args:
        path: of the file.
        map_location: as for `torch.load`.

    Raises:
        CheckpointError: damaged, not made of tensors and plain values, or no mapping.
    """
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: not a file of tensors and plain values, or not whole ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds {type(content).__name__}; expected a mapping of names to tensors")
    return content
