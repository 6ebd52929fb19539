"""The JSON files of a run's folder: read with their shape checked, so that no reader meets one that it cannot use."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atrous.errors import StoreError

FORMAT = 1
STATES = ("queued", "running", "stopped", "failed", "done")
JSON_FILES = ("run.json", "status.json", "results.json")
ENTRY_BYTES = 255
_MEND = "the run's own command sets the file aside and makes it anew; or move the folder away to train it anew"

# What readers take for granted of entries that are there. An entry of `evaluations` has a miou besides.
_NUMBER = int | float
_FACTS: Mapping[str, Any] = {
    "name": str,
    "key": str,
    "family": str,
    "seed": int,
    "max_steps": int,
    "command": str,
    "parent": str | None,
    "images": str | None,
}
_STATUS: dict[str, Any] = {
    "reason": str,
    "last_failure": str,
    "evaluating": str,
    "warning": str,
    "step": int,
    "max_steps": int,
    "restarts": int,
    "exit_code": int,
}
_STATUS |= {"loss": _NUMBER, "images_per_second": _NUMBER, "updated": _NUMBER}
_SECTIONS = {"evaluations": dict, "model": dict, "training": dict}
_EVALUATION: Mapping[str, Any] = {
    "pixel_accuracy": _NUMBER,
    "images": int,
    "pixels": int,
    "confusion": list,
    "boundary": dict,
    "scored": dict,
}


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
    if not isinstance(value, dict) or not _is(value.get("format", FORMAT), int):
        raise DamagedError(f"{path}: not a file of a run; {_MEND}")
    if value.get("format", FORMAT) > FORMAT:
        raise StoreError(
            f"{path}: written by a newer version of atrous (format {value['format']}, this one reads {FORMAT}): "
            f"install that version, or move the folder away to train it anew"
        )
    problem = _problem(path.name, value)
    if problem is not None:
        raise DamagedError(f"{path}: {problem}; {_MEND}")
    return value


def is_entry_name(name: str) -> bool:
    """Whether an entry of `evaluations` may have a name: it becomes a folder below evaluation/, or folders in folders.

    Those that atrous-evaluate gives are PROTOCOL@best@DATA@SPLIT@TAG, each but the first where it is asked for; DATA
    and SPLIT may have a slash within. None leads out of the folder.
    """
    parts = name.split("/")
    is_plain = re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name) is None
    return is_plain and not {"", ".", ".."} & {*parts} and len(name.encode()) <= ENTRY_BYTES


def _problem(name: str, value: Mapping[str, Any]) -> str | None:
    """What is wrong with the shape of a file's content, in words; None where nothing is."""
    if name == "status.json" and value and value.get("state") not in STATES:
        return f"state={value.get('state')!r} is not a state of a run ({', '.join(STATES)})"
    if name == "results.json":
        return _problem_of_results(value)
    return _wrong_kind(value, _FACTS if name == "run.json" else _STATUS)


def _problem_of_results(value: Mapping[str, Any]) -> str | None:
    for section, kind in _SECTIONS.items():
        if not isinstance(value.get(section, {}), kind):
            return f"{section} is no section of a run's results"
    for name, entry in value.get("evaluations", {}).items():
        if not is_entry_name(name):
            return f"evaluations has the entry {name!r}, which cannot be the name of a folder"
        if not isinstance(entry, dict) or not _is(entry.get("miou"), _NUMBER):
            return f"evaluations.{name} has no mIoU"
        problem = _wrong_kind(entry, _EVALUATION)
        if problem is not None:
            return f"evaluations.{name}.{problem}"
    return None


def _wrong_kind(value: Mapping[str, Any], kinds: Mapping[str, Any]) -> str | None:
    """The first entry that is of another kind than its readers need."""
    for key, kind in kinds.items():
        if key in value and not _is(value[key], kind):
            return f"{key}={value[key]!r} is not {getattr(kind, '__name__', kind)}"
    return None


def _is(value: Any, kind: Any) -> bool:
    """As isinstance, but that a truth value is no number."""
    return isinstance(value, kind) and not isinstance(value, bool)
