"""Where conf/ and experiments/ lie: inside an installed wheel, or at the top of a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    for parent in (_PACKAGE, _PACKAGE.parents[1]):
        if (parent / name).is_dir():
            return parent / name
    raise FileNotFoundError(f"{name}/ is neither in the installed package nor at the top of a checkout of atrous")


def conf_folder() -> Path:
    """The config groups of a run."""
    return _folder("conf")


def experiments_folder() -> Path:
    """The papers' tables, one file each."""
    return _folder("experiments")
