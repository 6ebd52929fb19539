"""Arguments of constructors as Python's own values; one of another kind is an error that names the argument."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

from atrous.errors import ConfigError


def whole_number(value: Any, *, name: str = "output_stride", least: int | None = None, why: str = "") -> int:
    """Return a whole number as Python's own; NumPy's, which no convolution takes for one, too.

    Args:
        value: As a caller gave it.
        name: The argument that it is, for the message.
        least: The smallest that it may be; None for any.
        why: What the message says behind that.

    Raises:
        ConfigError: It is none, such as 8.0 or True, or too small.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ConfigError(f"{name}={value!r} must be a whole number") from None
    if least is not None and number < least:
        raise ConfigError(f"{name}={value!r} must be at least {least}{why}")
    return number


def whole_numbers(values: Iterable[Any], *, name: str) -> tuple[int, ...]:
    """Return whole numbers as Python's own; arguments and errors as for `whole_number`."""
    values = listed(values, name=name, of="whole numbers")
    try:
        return tuple(whole_number(value) for value in values)
    except ConfigError:
        raise ConfigError(f"{name}={values!r}: every one must be a whole number") from None


def listed(values: Any, *, name: str, of: str) -> tuple[Any, ...]:
    """Return the entries of a list, or of what else has entries in an order; a text and a mapping have none here.

    Args:
        values: As a caller gave them.
        name: The argument that they are, for the message.
        of: What a list should be of, for the message.

    Raises:
        ConfigError: It is no list.
    """
    try:
        if isinstance(values, str | bytes | Mapping):
            raise TypeError
        return tuple(values)
    except TypeError:
        raise ConfigError(f"{name}={values!r} must be a list of {of}") from None


def number(value: Any, *, name: str) -> float:
    """Return a number as Python's own, of any range and kind; arguments as for `whole_number`.

    Raises:
        ConfigError: It is none, such as "0.1".
    """
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ConfigError(f"{name}={value!r} must be a number") from None


def positive_number(value: Any, *, name: str, why: str) -> float:
    """Return a finite number above 0; arguments and errors as for `number`, `why` is what the message says behind."""
    positive = number(value, name=name)
    if not 0 < positive < inf:
        raise ConfigError(f"{name}={value!r} must be above 0 and finite{why}")
    return positive


def truth(value: Any, *, name: str) -> bool:
    """Return True or False, also for NumPy's and for 1 and 0; arguments as for `whole_number`.

    Raises:
        ConfigError: It is neither, such as "no" or None, which Python takes for one of them.
    """
    try:
        if value in (True, False):
            return bool(value)
    except (TypeError, ValueError, RuntimeError):
        pass  # an array
    raise ConfigError(f"{name}={value!r} must be True or False")
