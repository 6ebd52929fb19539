"""Words of a command line, written as in a shell, as Hydra takes them."""

from __future__ import annotations

import os
from collections.abc import Container

from atrous.studies.overrides import quoted


def with_home(argument: str) -> str:
    """Return `key=~/path` with the home folder, as bash gives it for keys without a dot and other shells do not."""
    key, equals, value = argument.partition("=")
    return f"{key}{equals}{os.path.expanduser(value)}"  # noqa: PTH111  # Path's ends in an error for ~no_such_user


def with_path_quoted(argument: str, keys: Container[str]) -> str:
    """Quote the value of `key=path`, which may hold blanks, commas, brackets or =; what is in quotes, and null, stays.

    Args:
        argument: a word of the command line.
        keys: those whose values are paths or names.
    """
    argument = with_home(argument)
    key, equals, value = argument.partition("=")
    if key not in keys or value in ("", "null") or value[0] in "'\"":
        return argument
    return f"{key}{equals}{quoted(value)}"


def as_list(argument: str, short: str, key: str) -> str:
    """Return `key=[a,b]` for `short=a,b` or `short=[a,b]`; other words as they are."""
    name, equals, value = argument.partition("=")
    if name != short or not equals:
        return argument
    return f"{key}={value}" if value.startswith("[") else f"{key}=[{value}]"
