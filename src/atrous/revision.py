"""Which code this is: the version, and the commit where it runs from a checkout."""

import subprocess
from functools import cache
from pathlib import Path

from atrous import __version__

_PACKAGE = Path(__file__).resolve().parent
_SECONDS = 5.0


@cache
def revision() -> str:
    """Return the version and the commit, as `0.1.0 at 1c66f12` or, with changes that are in no commit, `... changed`.

    The commit is left out of an installed package, also where that lies in somebody else's checkout.
    """
    commit = describe(_PACKAGE)
    return f"{__version__} at {commit}" if commit else __version__


def describe(package: Path) -> str:
    """The commit of the checkout that keeps a package's files; empty where none does."""
    if not _git(package, "ls-files", "--error-unmatch", "__init__.py"):
        return ""
    commit = _git(package, "rev-parse", "--short", "HEAD")
    changes = _git(package, "status", "--porcelain", "--", ".")
    if changes is None:
        return f"{commit}, changed or not" if commit else ""
    return f"{commit} changed" if commit and changes else commit or ""


def _git(folder: Path, *words: str) -> str | None:
    """What git says in a folder; None where it is missing, slow, or finds fault."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
