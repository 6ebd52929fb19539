"""A process that a watchdog ends, told instead of ended."""

import faulthandler
import os
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The exit codes with which the process would have ended; the thread that watches ends there."""
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        faulthandler.cancel_dump_traceback_later()
        sys.exit()

    monkeypatch.setattr(os, "_exit", end)
    yield codes
    faulthandler.cancel_dump_traceback_later()
