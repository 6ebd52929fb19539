"""The audit of `make lint`: a new vulnerability fails, an accepted one has a reason, a missing service is told."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
WEAK = {"name": "weak", "version": "1.0", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-2"], "fix_versions": ["1.1"]}]}
SOUND = {"name": "sound", "version": "2.0", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ACCEPTED", tmp_path / "accepted.txt")
    (tmp_path / "accepted.txt").write_text("# a comment\n")
    return module


def answering(*packages: Any, probe: Any = SOUND) -> list[str]:
    """A program that answers as pip-audit does: first about one package, then about all."""
    one, all_ = (json.dumps({"dependencies": list(listed)}) for listed in ([probe], packages))
    return [sys.executable, "-c", f"import sys; print({one!r} if '-r' in sys.argv else {all_!r})"]


def test_a_vulnerability_fails_and_says_what_mends_it(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(answering(WEAK, SOUND, UNKNOWN)) == 1
    out = capsys.readouterr().out
    assert "weak 1.0: PYSEC-1, mended in 1.1" in out
    assert "2 packages audited, 1 new vulnerabilities; not audited: unknown" in out


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-2"])
def test_an_accepted_vulnerability_passes_by_any_of_its_names(audit: ModuleType, name: str) -> None:
    audit.ACCEPTED.write_text(f"{name} only its server is affected, which is not run\n")
    assert audit.main(answering(WEAK, SOUND)) == 0


def test_an_acceptance_without_a_reason_is_refused(audit: ModuleType) -> None:
    audit.ACCEPTED.write_text("PYSEC-1\n")
    with pytest.raises(SystemExit, match="PYSEC-1 stands there without a reason"):
        audit.main(answering(SOUND))


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (answering(probe=UNKNOWN), "keeps no list of known vulnerabilities"),
        ([sys.executable, "-c", "import sys; sys.exit('no route to host')"], "no route to host"),
        (["pip-audit-is-not-here"], "cannot be started"),
    ],
)
def test_without_the_service_it_is_told_that_nothing_was_audited(
    audit: ModuleType, capsys: pytest.CaptureFixture[str], command: list[str], reason: str
) -> None:
    assert audit.main(command) == 0
    out = capsys.readouterr().out
    assert out.startswith("not audited: ")
    assert reason in out


def test_a_service_that_does_not_answer_is_not_waited_for(
    audit: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_SECONDS", 0.5)
    assert audit.main([sys.executable, "-c", "import time; time.sleep(60)"]) == 0
    assert "not audited: no answer within" in capsys.readouterr().out


def test_the_accepted_vulnerabilities_have_reasons(audit: ModuleType) -> None:
    audit.accepted_vulnerabilities((ROOT / ".ci" / "accepted-vulnerabilities.txt").read_text())
