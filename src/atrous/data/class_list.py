"""The label space of your own data, read from a class list in YAML or given in the config."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from atrous.data.spec import Colour, DatasetSpec, voc_colour
from atrous.errors import DataError
from atrous.files import at_home

_KEYS = ("name", "classes", "ignore_label", "ignore_colour")
_CLASS_KEYS = ("name", "colour")


class ClassList:
    """Class names, and the colours that RGB masks give them.

    Attributes:
        spec: the label space. Without colours it has VOC's palette.
        label_of: the label of each colour, the ignored colour included; empty without colours.

    Args:
        classes: a list of classes, a mapping with the key `classes`, or the path of a YAML file that holds either. A
            class is a name, or a mapping with `name` and `colour` (RGB, 0..255 each). A mapping may also hold `name`
            (of the data set), `ignore_label` (255 by default) and `ignore_colour`.
        root: the folder of the data set; a relative path that does not exist is looked for there.

    Raises:
        DataError: names the file and the value that is wrong.
    """

    def __init__(self, classes: str | Path | Sequence[Any] | Mapping[str, Any], *, root: Path) -> None:
        source = "data.classes"
        if classes is None:  # as in a config that does not say it
            raise DataError(f"{source} has no value: give the class list, e.g. data.classes=classes.yaml")
        if isinstance(classes, str | Path):
            source, classes = repr(str(class_list_file(classes, root))), class_list_content(classes, root)
        content = classes if isinstance(classes, Mapping) else {"classes": classes}
        _check_keys(content, _KEYS, source=source)
        entries = content.get("classes")
        if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
            raise DataError(
                f"{source}: {_no_list(entries)}; expected `classes: [first, second]`, or `- first` and `- second` on "
                "lines of their own, at least two names"
            )
        names, colours = zip(*(_class(entry, source=source) for entry in entries), strict=True)
        self.spec = DatasetSpec(
            name=str(content.get("name", "folder")),
            classes=names,
            palette=tuple(voc_colour(label) if colour is None else colour for label, colour in enumerate(colours)),
            ignore_label=_ignore_label(content.get("ignore_label", 255), source=source),
        )
        self.label_of = self._labels(colours, content.get("ignore_colour"), source=source)

    def _labels(self, colours: Sequence[Colour | None], ignored: Any, *, source: str) -> dict[Colour, int]:
        without = [name for name, colour in zip(self.spec.classes, colours, strict=True) if colour is None]
        if without and (len(without) < len(colours) or ignored is not None):
            raise DataError(f"{source}: class {without[0]!r} has no colour; give every class one, or none of them")
        users: list[tuple[Colour | None, str, int]] = [
            (colour, name, label) for label, (colour, name) in enumerate(zip(colours, self.spec.classes, strict=True))
        ]
        if ignored is not None:
            users.append((_colour(ignored, of="ignore_colour", source=source), "ignore_colour", self.spec.ignore_label))
        label_of: dict[Colour, int] = {}
        user_of: dict[Colour, str] = {}
        for colour, name, label in users:
            if colour is None:
                continue
            if colour in label_of:
                raise DataError(
                    f"{source}: colour {list(colour)} is used twice, by {user_of[colour]!r} and by {name!r}; "
                    "colours must differ"
                )
            label_of[colour], user_of[colour] = label, name
        return label_of


def class_list_content(classes: Any, root: Path) -> Any:
    """Return what a class list holds where `classes` is the path of one, else `classes`.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    return _read(class_list_file(classes, root)) if isinstance(classes, str | Path) else classes


def class_list_file(path: str | Path, root: Path) -> Path:
    """Where a class list is: here, or in the folder of the data set.

    Raises:
        DataError: it is in neither.
    """
    given = at_home(path)
    for candidate in (given, at_home(root) / given):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"data.classes={str(path)!r} is not a file, neither here nor in {str(root)!r}; expected a YAML file such as "
        "`classes: [road, {name: tree, colour: [0, 128, 0]}]`"
    )


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or []
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{str(path)!r} cannot be read as YAML ({' '.join(str(error).split())})") from error


def _class(entry: Any, *, source: str) -> tuple[str, Colour | None]:
    if isinstance(entry, str):
        return entry, None
    if not isinstance(entry, Mapping):
        raise DataError(f"{source}: {entry!r} is not a class; expected a name, in quotes if it reads as something else")
    _check_keys(entry, _CLASS_KEYS, source=source)
    name = entry.get("name")
    if not isinstance(name, str):
        raise DataError(f"{source}: the class {dict(entry)} has no name; expected {{name: tree, colour: [0, 128, 0]}}")
    colour = entry.get("colour")
    return name, None if colour is None else _colour(colour, of=name, source=source)


def _colour(value: Any, *, of: str, source: str) -> Colour:
    channels = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(channels) != 3 or not all(type(channel) is int and 0 <= channel <= 255 for channel in channels):
        raise DataError(
            f"{source}: the colour {value!r} of {of!r} is not RGB; expected three whole numbers from 0 to 255"
        )
    return channels[0], channels[1], channels[2]


def _ignore_label(value: Any, *, source: str) -> int:
    if type(value) is not int:
        raise DataError(f"{source}: ignore_label={value!r} is not a whole number; expected one such as 255")
    return value


def _no_list(entries: Any) -> str:
    """What stands where the classes should be listed."""
    if not entries:
        return "the class list is empty"
    shown = repr(entries if isinstance(entries, str) else dict(entries) if isinstance(entries, Mapping) else entries)
    return f"the classes are no list but {shown if len(shown) <= 60 else f'{shown[:60]}...'}"


def _check_keys(content: Mapping[str, Any], known: Sequence[str], *, source: str) -> None:
    unknown = [key for key in content if key not in known]
    if unknown:
        raise DataError(f"{source}: unknown key {unknown[0]!r}; there are {', '.join(known)}")
