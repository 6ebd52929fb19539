"""Hydra overrides as text: the last one of a key wins, and a scale substitutes values."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from atrous.errors import ConfigError

_BUDGET = ("recipe.max_steps",)


def parse(arguments: Sequence[str]) -> list[Override]:
    """Read overrides as Hydra does; what a glob stands for is known where a Hydra is initialised."""
    loader = GlobalHydra.instance().config_loader() if GlobalHydra.instance().is_initialized() else None
    return OverridesParser.create(loader).parse_overrides(list(arguments))


def key_of(override: Override) -> str:
    """The key that an override sets or adds."""
    return str(override.get_key_element()).lstrip("+")


def values_of(override: Override | None, *, default: Any) -> list[str]:
    """The values that an override sweeps over, or its only one; the default where there is none.

    Raises:
        ConfigError: It sweeps over nothing, as a glob does that no config of its group fits.
    """
    if override is None:
        return [str(default)]
    if override.is_sweep_override():
        values = [str(value) for value in override.sweep_string_iterator()]
        if not values:
            raise ConfigError(f"{override.input_line} stands for no value at all, so that nothing would be run")
        return values
    return [str(override.get_value_element_as_str())]


def without_budget(arguments: Sequence[str]) -> list[str]:
    """The overrides that say what a row is when it is trained in full: a cut `recipe.max_steps` is dropped."""
    return [text for text, override in zip(arguments, parse(arguments), strict=True) if key_of(override) not in _BUDGET]


def merge(overrides: Sequence[str]) -> list[str]:
    """Overrides of which the last one of each key wins, group choices before values."""
    last = {key_of(override): override.input_line or "" for override in parse(overrides)}
    return sorted(last.values(), key=lambda text: "." in text.split("=", 1)[0])


def substitute(overrides: Sequence[str], table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Overrides with the values that a scale replaces, e.g. `backbone=resnet101` -> `backbone=tiny`.

    The overrides inside of `parent=[...]` are replaced as well, at any depth.
    """
    result = []
    for override in parse(overrides):
        inner: Any = override.value()
        if key_of(override) == "parent" and isinstance(inner, list):
            result.append(parent_entry(substitute([str(getattr(entry, "text", entry)) for entry in inner], table)))
            continue
        key, value = key_of(override), str(override.get_value_element_as_str())
        replacement = {str(given): wanted for given, wanted in table.get(key, {}).items()}.get(value)
        result.append((override.input_line or "") if replacement is None else f"{key}={replacement}")
    return result


def parent_entry(overrides: Sequence[str]) -> str:
    """The override `parent=[...]` that lists `overrides`, which may hold one themselves."""
    return f"parent=[{','.join(quoted(text) for text in overrides)}]"


def quoted(text: str) -> str:
    """Return text in quotes as Hydra reads them: a quote inside takes a backslash, the backslashes before it double."""
    quote = '"' if "'" in text and '"' not in text else "'"
    escaped = re.sub(rf"(\\*)({quote}|$)", lambda found: 2 * found[1] + (f"\\{quote}" if found[2] else ""), text)
    return f"{quote}{escaped}{quote}"
