"""Which pages are written: runs of one config in two stores have the same name and are not taken for each other."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from atrous.commands import evaluate, evaluate_pages
from atrous.commands.evaluate_subject import Subject
from atrous.run_store import RunFolder


def _subject(folder: Path, *, has_page: bool = False) -> Subject:
    subject = Subject(name="what-1a/seed0", folder=RunFolder(folder), config={}, checkpoint="last")
    if has_page:
        subject.page("single").parent.mkdir(parents=True)
        subject.page("single").touch()
    return subject


def test_only_the_page_of_the_run_that_was_measured_just_now_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    monkeypatch.setattr(evaluate_pages, "evaluation_page", lambda subject, name: written.append(subject.folder.path))
    monkeypatch.setattr(evaluate_pages, "comparison_page", lambda first, second, name: "")
    subjects = [_subject(tmp_path / store / "runs/what-1a/seed0", has_page=True) for store in ("a", "b")]
    evaluate._write_pages(subjects, OmegaConf.create({"overwrite": False}), "single", [["single"], []])
    assert written == [subjects[0].folder.path]


def test_comparisons_with_runs_of_the_same_name_in_other_stores_have_files_of_their_own(tmp_path: Path) -> None:
    first = _subject(tmp_path / "a/runs/what-1a/seed0")
    names = [
        evaluate_pages._file_name(first, _subject(tmp_path / store / "runs/what-1a/seed0")) for store in ("a", "b", "c")
    ]
    assert names[0] == "what-1a-seed0"
    assert len(set(names)) == 3
    assert all(name.startswith("what-1a-seed0") for name in names)
