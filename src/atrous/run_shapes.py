"""What readers take for granted of a run's JSON files: an entry that is there is of the kind that it is used as.

Numbers that are shown are not infinite: dates, durations and charts have no place for those. NaN is what scores are
where no pixel is labelled.
"""

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

STATES = ("queued", "running", "stopped", "failed", "done")
ENTRY_BYTES = 255
_HUGE = 2**64  # no number of a run is as large
_YEAR_10000 = 253402300800.0  # in seconds since 1970; later times have no date


class _Kind(NamedTuple):
    """What an entry must be, in words, and whether a value is that."""

    words: str
    holds: Callable[[Any], bool]


_Shape = Mapping[str, _Kind]


def _is(value: Any, kind: type) -> bool:
    """As isinstance, but that a truth value is no number."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is(value, float) or (_is(value, int) and abs(value) < _HUGE)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and abs(value) < _HUGE


def _is_score(value: Any) -> bool:
    return _is_finite(value) or (_is(value, float) and math.isnan(value))


def _or_null(kind: _Kind) -> _Kind:
    return _Kind(f"{kind.words} or null", lambda value: value is None or kind.holds(value))


def _list_of(kind: _Kind, *, length: int | None = None) -> _Kind:
    words = f"a list of {'' if length is None else f'{length} times '}{kind.words}"
    return _Kind(words, lambda value: _is(value, list) and length in (None, len(value)) and all(map(kind.holds, value)))


_STR = _Kind("str", lambda value: _is(value, str))
_INT = _Kind("int", lambda value: _is(value, int) and abs(value) < _HUGE)
_DICT = _Kind("dict", lambda value: _is(value, dict))
_NUMBER = _Kind("a number", _is_number)
_AMOUNT = _Kind("a number of at least 0", lambda value: _is_finite(value) and value >= 0)
_TIME = _Kind("a time in seconds since 1970", lambda value: _is_finite(value) and 0 <= value < _YEAR_10000)
_SCORE = _Kind("a number that is not infinite", _is_score)
_SCORES = _list_of(_or_null(_SCORE))
_BY_CLASS = _Kind("a dict of numbers", lambda value: _is(value, dict) and _SCORES.holds([*value.values()]))
_INTERVAL = _or_null(_list_of(_SCORE, length=2))

_FACTS: _Shape = {
    **dict.fromkeys(("name", "key", "family", "command"), _STR),
    **dict.fromkeys(("seed", "max_steps"), _INT),
    **dict.fromkeys(("parent", "images"), _or_null(_STR)),
}
_STATUS: _Shape = {
    **dict.fromkeys(("reason", "last_failure", "evaluating", "warning"), _STR),
    **dict.fromkeys(("step", "max_steps", "restarts", "exit_code"), _INT),
    **dict.fromkeys(("loss", "images_per_second"), _NUMBER),
    "updated": _TIME,
}
_SECTIONS: Mapping[str, _Shape] = {
    "evaluations": {},
    "model": {
        **dict.fromkeys(("parameters", "multiply_adds", "multiply_adds_paper"), _AMOUNT),
        "size": _list_of(_INT, length=2),
    },
    "training": {
        **dict.fromkeys(("steps", "skipped_steps"), _INT),
        **dict.fromkeys(("seconds", "images_per_second", "peak_memory_mib"), _AMOUNT),
        "atrous": _STR,
    },
}
_EVALUATION: _Shape = {
    **dict.fromkeys(("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"), _SCORE),
    **dict.fromkeys(("images", "pixels"), _INT),
    **dict.fromkeys(("boundary", "scored", "protocol"), _DICT),
    "confidence": _or_null(_DICT),
    "confusion": _Kind("list", lambda value: _is(value, list)),
    "checkpoint": _STR,
    "iou": _BY_CLASS,
}
_CONFIDENCE: _Shape = {
    **dict.fromkeys(("level", "replicates"), _AMOUNT),
    **dict.fromkeys(("miou", "pixel_accuracy"), _INTERVAL),
    "iou": _list_of(_INTERVAL),
}
_BOUNDARY: _Shape = {
    "f_score": _or_null(_SCORE),
    "f_score_of": _BY_CLASS,
    "trimap_widths": _list_of(_SCORE),
    "trimap_miou": _SCORES,
}


def is_entry_name(name: str) -> bool:
    """Whether an entry of `evaluations` may have a name: it becomes a folder below evaluation/, or folders in folders.

    Those that atrous-evaluate gives are PROTOCOL@best@DATA@SPLIT@TAG, each but the first where it is asked for; DATA
    and SPLIT may have a slash within. None leads out of the folder.
    """
    parts = name.split("/")
    is_plain = re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name) is None
    return is_plain and not {"", ".", ".."} & {*parts} and len(name.encode()) <= ENTRY_BYTES


def problem_of(name: str, value: Mapping[str, Any]) -> str | None:
    """What is wrong with the shape of a file's content, in words; None where nothing is.

    Args:
        name: run.json, status.json or results.json.
        value: its content.
    """
    if name == "results.json":
        return _problem_of_results(value)
    if name == "status.json" and value and value.get("state") not in STATES:
        return f"state={value.get('state')!r} is not a state of a run ({', '.join(STATES)})"
    return _wrong_kind(value, _FACTS if name == "run.json" else _STATUS)


def _problem_of_results(value: Mapping[str, Any]) -> str | None:
    for section, shape in _SECTIONS.items():
        entries = value.get(section, {})
        if not isinstance(entries, dict):
            return f"{section} is no section of a run's results"
        problem = _wrong_kind(entries, shape, where=f"{section}.")
        if problem is not None:
            return problem
    problems = (_problem_of_evaluation(name, entry) for name, entry in value.get("evaluations", {}).items())
    return next((problem for problem in problems if problem is not None), None)


def _problem_of_evaluation(name: str, entry: Any) -> str | None:
    if not is_entry_name(name):
        return f"evaluations has the entry {name!r}, which cannot be the name of a folder"
    where = f"evaluations.{name}"
    if not isinstance(entry, dict) or not _is_number(entry.get("miou")):
        return f"{where} has no mIoU"
    problem = _wrong_kind(entry, _EVALUATION, where=f"{where}.")
    for section, shape in (("confidence", _CONFIDENCE), ("boundary", _BOUNDARY)):
        problem = problem or _wrong_kind(entry.get(section) or {}, shape, where=f"{where}.{section}.")
    boundary = {} if problem else entry.get("boundary", {})
    if len(boundary.get("trimap_widths", ())) != len(boundary.get("trimap_miou", ())):
        return f"{where}.boundary has not one mIoU for each width of a trimap"
    return problem


def _wrong_kind(value: Mapping[str, Any], shape: _Shape, *, where: str = "") -> str | None:
    """The first entry that is of another kind than its readers need."""
    for key, kind in shape.items():
        if key in value and not kind.holds(value[key]):
            return f"{where}{key}={reprlib.repr(value[key])} is not {kind.words}"
    return None
