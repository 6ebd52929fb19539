"""What the benchmarks' own search for peers changes is put back."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _path_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that another test spawns would take the peers' packages over, for its own torch or not."""
    monkeypatch.setattr(sys, "path", [*sys.path])
