"""The wire format of protocol buffers, as much of it as TensorFlow's checkpoints need: numbers and messages."""

from collections.abc import Iterator

from atrous.errors import CheckpointError

Value = int | bytes

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_BITS = 64


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, lowest first, whose last byte has no high bit.

    Args:
        data: Where the number stands.
        position: Of its first byte.

    Returns:
        The number, 0 to 2**64 - 1, and the position after it.

    Raises:
        CheckpointError: The data ends within the number, or it has more than 64 bits.
    """
    value = 0
    for shift in range(0, _MOST_BITS + 6, 7):
        if position >= len(data):
            raise CheckpointError("it ends in the middle of a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> _MOST_BITS:
                break
            return value, position
    raise CheckpointError("a number has more than 64 bits")


def read_fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Yield (field number, value) of a message in the order of the file.

    Args:
        message: A serialised message.

    Yields:
        Numbers (not zigzag, fixed ones unsigned) as int; strings and messages within as bytes.

    Raises:
        CheckpointError: The message is damaged.
    """
    position = 0
    while position < len(message):
        key, position = read_varint(message, position)
        kind = key & 7
        if kind == _VARINT:
            value: Value
            value, position = read_varint(message, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, position = read_varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise CheckpointError(f"a field of a kind that does not exist ({kind})")
        content = message[position : position + size]
        if len(content) != size:
            raise CheckpointError("it ends in the middle of a field")
        position += size
        yield key >> 3, content if kind == _BYTES else int.from_bytes(content, "little")
