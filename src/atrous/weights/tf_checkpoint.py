"""TensorFlow's V2 checkpoints (model.ckpt.index, model.ckpt.data-00000-of-00001), read without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.cache import cache_folder
from atrous.errors import CheckpointError
from atrous.files import at_home
from atrous.weights.crc32c import masked_crc32c
from atrous.weights.tf_archive import unpack_once
from atrous.weights.tf_index import CHECKPOINT_FILE, Variable, read_index

_ARCHIVES = (".tar.gz", ".tgz")
_EXAMPLE = "give the prefix, such as model.ckpt for model.ckpt.index and model.ckpt.data-00000-of-00001"


class TensorFlowCheckpoint(Mapping[str, NDArray[Any]]):
    """The variables of a checkpoint by name, each read from the disk and checked when it is asked for.

    Args:
        prefix: Path of the checkpoint without `.index` and `.data-...`.

    Attributes:
        prefix: The same.
        variables: Name, type, shape and place of each, sorted by name; strings are left out.

    Raises:
        CheckpointError: As for `read_checkpoint`.
    """

    def __init__(self, *, prefix: Path) -> None:
        self.prefix = prefix
        index = _beside(prefix, ".index")
        try:
            variables, self._shards = read_index(_read_whole(index))
        except CheckpointError as error:
            raise CheckpointError(f"{index} cannot be read: {error}") from None
        self.variables = tuple(variables)
        self._by_name = {variable.name: variable for variable in variables}
        self._check_data_files()

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a new array of the variable's values, in TensorFlow's layout.

        Raises:
            KeyError: There is no such variable.
            CheckpointError: Its bytes are damaged, it is stored in slices, or numpy has no such type.
        """
        variable = self._by_name[name]
        if variable.refusal is not None:
            raise CheckpointError(f"{self.prefix}: {variable.refusal}")
        path = self._data_file(variable.shard)
        content = np.empty(variable.size, np.uint8)
        try:
            with path.open("rb") as stream:
                stream.seek(variable.offset)
                count = stream.readinto(content.data)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
        found = masked_crc32c(content)
        if count != variable.size or found != variable.checksum:
            raise CheckpointError(
                f"{path}: the values of {name} are damaged "
                f"(CRC-32C {found:#010x}, expected {variable.checksum:#010x}); fetch the file again"
            )
        return content.view(np.dtype(variable.dtype).newbyteorder("<")).reshape(variable.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"TensorFlowCheckpoint(prefix={str(self.prefix)!r}, variables={len(self)})"

    def _data_file(self, shard: int) -> Path:
        return _beside(self.prefix, f".data-{shard:05d}-of-{self._shards:05d}")

    def _check_data_files(self) -> None:
        """Find a missing or cut off file now, and not after half of the weights were read."""
        last: dict[int, Variable] = {}
        for variable in self.variables:
            if variable.refusal is None:
                last[variable.shard] = max(last.get(variable.shard, variable), variable, key=_end)
        for shard, variable in sorted(last.items()):
            path = self._data_file(shard)
            if not path.is_file():
                raise CheckpointError(f"{path} is not there; {self.prefix}.index says it holds {variable.name}")
            if path.stat().st_size < _end(variable):
                raise CheckpointError(
                    f"{path} has {path.stat().st_size} bytes, but {variable.name} ends at byte {_end(variable)}: "
                    "the file is cut off, fetch it again"
                )


def read_checkpoint(prefix: str | Path) -> TensorFlowCheckpoint:
    """Open a TensorFlow V2 checkpoint; its values are read when they are asked for.

    Args:
        prefix: As TensorFlow has it, e.g. "folder/model.ckpt"; the .index file or a .data file does as well.

    Returns:
        A mapping from a variable's name to its array, with a list of `variables`.

    Raises:
        CheckpointError: A file is missing, cut off, damaged (by its CRC-32C), compressed or of another kind.
    """
    path = Path(prefix)
    prefix = path.parent / CHECKPOINT_FILE.sub("", path.name)
    if not _beside(prefix, ".index").is_file():
        raise CheckpointError(f"{prefix}.index is not there; {_advice(prefix)}")
    return TensorFlowCheckpoint(prefix=prefix)


def open_checkpoint(path: str | Path) -> TensorFlowCheckpoint:
    """Open a checkpoint by its prefix, one of its files, its folder, or the .tar.gz of the official release.

    Of an archive only the checkpoint's files are unpacked, into `unpacked/` of the cache (`atrous.cache`), and only
    once.

    Args:
        path: As above.

    Raises:
        CheckpointError: As for `read_checkpoint`; a damaged archive, or one with no or several checkpoints.
    """
    path = at_home(path)
    if path.is_dir():
        return read_checkpoint(_only_prefix(path, source=path))
    if not path.name.endswith(_ARCHIVES):
        return read_checkpoint(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; give an archive of the official release, or a checkpoint's prefix")
    return read_checkpoint(_only_prefix(unpack_once(path, cache=cache_folder()), source=path))


def _only_prefix(folder: Path, *, source: Path) -> Path:
    indices = sorted(folder.glob("*.index"))
    if not indices:
        raise CheckpointError(f"{source} holds no V2 checkpoint: nothing in it is named like model.ckpt.index")
    if len(indices) > 1:
        names = ", ".join(path.stem for path in indices[:6])
        raise CheckpointError(f"{source} holds {len(indices)} checkpoints ({names}); give the prefix of one")
    return indices[0].with_suffix("")


def _advice(prefix: Path) -> str:
    if prefix.is_file():
        return f"{prefix} alone is no V2 checkpoint (V1, frozen graphs and meta graphs are not read); {_EXAMPLE}"
    others = sorted(path.name for path in prefix.parent.glob("*.index"))[:3]
    return _EXAMPLE + (f"; there are {', '.join(others)}" if others else "")


def _beside(prefix: Path, ending: str) -> Path:
    return prefix.parent / f"{prefix.name}{ending}"


def _end(variable: Variable) -> int:
    return variable.offset + variable.size


def _read_whole(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"its bytes are out of reach ({error.strerror})") from None
