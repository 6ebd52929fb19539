"""`make lint`'s look at known vulnerabilities of what is installed: found ones fail, an audit that cannot be is told.

`python .ci/audit.py [PIP-AUDIT ...]`; the arguments replace the command, which tests use.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ACCEPTED = Path(__file__).with_name("accepted-vulnerabilities.txt")
_SECONDS = 40
_COMMAND = (sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--timeout", "10", "--format", "json")


class NotAuditedError(Exception):
    """The service with the known vulnerabilities cannot be asked, and why."""


def main(command: Sequence[str] = ()) -> int:
    """Print what was found.

    Returns:
        1 where something that is installed has a vulnerability which is not accepted, else 0.
    """
    command = command or _COMMAND
    accepted = accepted_vulnerabilities(ACCEPTED.read_text())
    try:
        # One package first: where the service knows not even pip, asking for all would only take long.
        pip = f"pip=={version('pip')}\n"
        _require_answers(_audit([*command, "--disable-pip", "--no-deps", "-r", "/dev/stdin"], pip))
        packages = _audit([*command, "--skip-editable"])
    except NotAuditedError as error:
        print(f"not audited: {error}")
        return 0
    found = [(package, entry) for package in packages for entry in package.get("vulns", ())]
    new = [(package, entry) for package, entry in found if not {entry["id"], *entry["aliases"]} & accepted.keys()]
    for package, entry in new:
        fixed = ", ".join(entry["fix_versions"]) or "no release"
        print(f"{package['name']} {package['version']}: {entry['id']}, mended in {fixed}")
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    left = f"; not audited: {', '.join(skipped)}" if skipped else ""
    print(f"{len(packages) - len(skipped)} packages audited, {len(new)} new vulnerabilities{left}")
    return 1 if new else 0


def accepted_vulnerabilities(text: str) -> dict[str, str]:
    """Read the list of accepted vulnerabilities: identifier -> reason.

    Raises:
        SystemExit: one stands there without a reason.
    """
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for words in lines:
        if len(words) < 2:
            raise SystemExit(f"error: {ACCEPTED.name}: {words[0]} stands there without a reason")
    return {words[0]: words[1] for words in lines}


def _audit(command: Sequence[str], requirements: str = "") -> list[dict[str, Any]]:
    try:
        done = subprocess.run(
            command, input=requirements, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        raise NotAuditedError(f"no answer within {_SECONDS} seconds") from None
    except OSError as error:
        raise NotAuditedError(f"{command[0]} cannot be started ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise NotAuditedError(f"pip-audit ended without a result ({last[:200]})") from None
    return packages


def _require_answers(packages: Sequence[dict[str, Any]]) -> None:
    if all("skip_reason" in package for package in packages):
        raise NotAuditedError("the package index here keeps no list of known vulnerabilities")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
