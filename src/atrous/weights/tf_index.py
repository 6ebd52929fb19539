"""What the .index of a TensorFlow V2 checkpoint says: which variables there are, and where their bytes lie.

Source: core/protobuf/tensor_bundle.proto and core/framework/types.proto of tensorflow/tensorflow.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from atrous.errors import CheckpointError
from atrous.weights.protobuf import Value, read_fields
from atrous.weights.sstable import read_table

DTYPES = MappingProxyType(
    {
        1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 8: "complex64", 9: "int64",
        10: "bool", 17: "uint16", 18: "complex128", 19: "float16", 22: "uint32", 23: "uint64",
    }
)  # fmt: skip
_FOREIGN = MappingProxyType({7: "string", 11: "qint8", 12: "quint8", 13: "qint32", 14: "bfloat16", 21: "variant"})
CHECKPOINT_FILE = re.compile(r"\.(index|data-\d{5}-of-\d{5})$")  # ends the names of a checkpoint's files
_STRING = 7
_FORMAT = 1  # kTensorBundleVersion
_MOST_DIMENSIONS = 32  # numpy before 2.0 has no more
_MOST_BYTES = 1 << 62


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable of a checkpoint.

    Attributes:
        name: As TensorFlow has it, without ":0".
        dtype: numpy's name of its type, or TensorFlow's name of one that numpy has not.
        shape: Its axes; empty for a scalar.
        shard: Number of its data file, from 0.
        offset: Of its first byte in that file.
        size: Its bytes.
        checksum: Masked CRC-32C of them.
        refusal: Why its values cannot be read; None where they can.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    refusal: str | None = None


def read_index(data: bytes) -> tuple[list[Variable], int]:
    """Return the variables of a checkpoint, sorted by name, and the number of its data files.

    Strings are left out (TensorFlow 2 keeps its graph of objects as one).

    Args:
        data: The content of the .index file.

    Raises:
        CheckpointError: The content is damaged, cut off, or of another kind; the message names no file.
    """
    table = read_table(data)
    if not table or table[0][0]:
        raise CheckpointError("it has no header, so it is the table of another program")
    shards = _read_header(table[0][1])
    # A key that starts with a zero byte is a slice of a variable, which its variable's own entry tells of.
    named = [(_decode(key), entry) for key, entry in table[1:] if not key.startswith(b"\0")]
    variables = [_read_entry(name, entry, shards) for name, entry in named]
    return [variable for variable in variables if variable.dtype != _FOREIGN[_STRING]], shards


def _decode(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise CheckpointError(f"the name {key!r} of a variable is not UTF-8") from None


def _read_header(message: bytes) -> int:
    header = _gather(message)
    version = _gather(_message(header, 3))
    if _number(header, 2):
        raise CheckpointError("it was written on a big-endian machine; only little-endian checkpoints are read")
    if _number(version, 2) > _FORMAT:
        raise CheckpointError(f"it needs a reader of format {_number(version, 2)}; this one knows format {_FORMAT}")
    return _number(header, 1)


def _read_entry(name: str, message: bytes, shards: int) -> Variable:
    entry = _gather(message)
    code = _number(entry, 1)
    variable = Variable(
        name=name,
        dtype=DTYPES.get(code) or _FOREIGN.get(code, f"type {code}"),
        shape=tuple(_number(_gather(dim), 1) for dim in _messages(_gather(_message(entry, 2)), 2)),
        shard=_number(entry, 3),
        offset=_number(entry, 4),
        size=_number(entry, 5),
        checksum=_number(entry, 6),
        refusal=_refusal(name, code, sliced=7 in entry),
    )
    if variable.refusal is None:
        _check(variable, shards)
    return variable


def _refusal(name: str, code: int, *, sliced: bool) -> str | None:
    if sliced:
        return f"{name} is stored in slices (a partitioned variable); save it whole in TensorFlow"
    if code not in DTYPES:
        kind = _FOREIGN.get(code, "not in numpy")
        return f"{name} is of TensorFlow's type {code} ({kind}); cast it to float32 in TensorFlow"
    return None


def _check(variable: Variable, shards: int) -> None:
    """Refuse an entry that contradicts itself, before anything is allocated for it."""
    name, shape = variable.name, variable.shape
    item = np.dtype(variable.dtype).itemsize
    if len(shape) > _MOST_DIMENSIONS or item * math.prod(n for n in shape if n) > _MOST_BYTES:
        raise CheckpointError(f"{name} has the impossible shape {shape}")
    if variable.size != item * math.prod(shape):
        raise CheckpointError(
            f"{name} has {variable.size} bytes, but {item * math.prod(shape)} by its shape {shape} of {variable.dtype}"
        )
    if variable.shard >= shards:
        raise CheckpointError(f"{name} lies in data file {variable.shard}, but there are only {shards}")


def _gather(message: bytes) -> dict[int, list[Value]]:
    fields: defaultdict[int, list[Value]] = defaultdict(list)
    for number, value in read_fields(message):
        fields[number].append(value)
    return dict(fields)


def _number(fields: dict[int, list[Value]], number: int) -> int:
    """Return the last value of a field, as protocol buffers want it; 0 where it was left out."""
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise CheckpointError(f"field {number} of an entry should be a number")
    return value


def _messages(fields: dict[int, list[Value]], number: int) -> list[bytes]:
    values = fields.get(number, [])
    found = [value for value in values if isinstance(value, bytes)]
    if len(found) != len(values):
        raise CheckpointError(f"field {number} of an entry should be a message")
    return found


def _message(fields: dict[int, list[Value]], number: int) -> bytes:
    return b"".join(_messages(fields, number))  # messages in pieces are merged, says the format
