"""The JSON files of a run's folder: read with their shape checked, so that no reader meets one that it cannot use.

They are written into a folder that is there: what was removed under a run is not made anew in part.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atrous.errors import StoreError
from atrous.files import write_json
from atrous.run_shapes import problem_of

FORMAT = 1
JSON_FILES = ("run.json", "status.json", "results.json")
_MEND = "the run's own command sets the file aside and makes it anew; or move the folder away to train it anew"


class DamagedError(StoreError):
    """A file of the run store that cannot be read; the next start sets it aside and makes it anew."""


def read(path: Path) -> dict[str, Any]:
    """The content of one of the JSON_FILES; empty where there is none.

    Raises:
        DamagedError: it is no JSON, or not in the shape of that file.
        StoreError: it cannot be read, or a newer version wrote it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: not readable as JSON ({error}); {_MEND}") from None
    if not isinstance(value, dict) or type(value.get("format", FORMAT)) is not int:
        raise DamagedError(f"{path}: not a file of a run; {_MEND}")
    if value.get("format", FORMAT) > FORMAT:
        raise StoreError(
            f"{path}: written by a newer version of atrous (format {value['format']}, this one reads {FORMAT}): "
            f"install that version, or move the folder away to train it anew"
        )
    problem = problem_of(path.name, value)
    if problem is not None:
        raise DamagedError(f"{path}: {problem}; {_MEND}")
    return value


def write(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file of a run; raises StoreError where its folder is gone."""
    require(path.parent)
    write_json(path, value)


def require(folder: Path) -> None:
    """Raise StoreError where a run's folder is gone."""
    if said := gone(folder):
        raise StoreError(said)


def gone(folder: Path) -> str:
    """What to say of a run's folder that is not there; nothing where it is, or where its disk is away."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return f"{folder}: the run's folder was removed or renamed while the run went on"
    except OSError:  # what reads or writes there says so
        pass
    return ""
