"""What is said, and to be lowered, where an image is larger than the memory."""

from __future__ import annotations

from atrous.evaluation.protocol import Protocol
from atrous.hardware import what_was_asked


def too_large(what: str, error: BaseException, protocol: Protocol, *, batch_size: int = 1) -> str:
    """Say that there is not enough memory, and which keys would help.

    Args:
        what: does not fit.
        error: of which `atrous.hardware.is_memory_full` is true.
        protocol: under which it was predicted.
        batch_size: how many were predicted at a time.
    """
    keys = [f"batch_size={batch_size // 2} (now {batch_size})"] if batch_size > 1 else []
    if protocol.tile is None:
        keys.append("protocol=tiles_os16, which takes it in parts")
    else:
        keys.append(f"a protocol of smaller tiles (now {protocol.tile[0]}x{protocol.tile[1]})")
    return f"{what} does not fit into the memory ({what_was_asked(error)}); try {' or '.join(keys)}"
