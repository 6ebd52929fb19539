"""The code that trained a run is named by its commit, where there is one."""

import subprocess
from pathlib import Path

from atrous import __version__
from atrous.revision import describe, revision


def _git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_a_checkout_is_named_by_its_commit_and_whether_it_has_changes(tmp_path: Path) -> None:
    package = tmp_path / "src" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert describe(package) == ""
    _git(tmp_path, "init", "--quiet")
    assert describe(package) == ""  # installed into somebody's checkout, which does not keep it
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "--quiet", "-m", "one")
    commit = _git(tmp_path, "rev-parse", "--short", "HEAD")
    assert describe(package) == commit
    (tmp_path / "notes.txt").write_text("beside the package")
    assert describe(package) == commit
    (package / "new.py").write_text("")
    assert describe(package) == f"{commit} changed"


def test_a_machine_without_git_names_the_version(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe(tmp_path) == ""
    assert revision().startswith(__version__)
