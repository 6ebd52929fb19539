"""Install the libraries that atrous is measured against, the extra `bench`, beside the environment at hand.

    python -m benchmarks.install_peers .venv-bench

They get an environment of their own that sees the packages of this one, so that torch stays as it is installed and
nothing of them is seen by atrous-train. pip takes the torchvision that belongs to this torch, or says that there is
none.
"""

import argparse
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from benchmarks.turns import ROOT

EXTRA = "bench"


def requirements(of_distribution: Iterable[str]) -> list[str]:
    """The requirements of the extra `bench`, without the marker that names it."""
    marked = [text.partition(";") for text in of_distribution]
    return [text.strip() for text, _, marker in marked if marker.replace("'", '"').strip() == f'extra == "{EXTRA}"']


def install(folder: Path) -> int:
    """Make the environment and install the peers.

    Returns:
        pip's exit code.
    """
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "atrous_environment.pth").write_text(sysconfig.get_path("purelib") + "\n")
    torch = folder / "torch.txt"
    torch.write_text(f"torch=={metadata.version('torch')}\n")
    command: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["-c", ROOT / "constraints.txt", "-c", torch, *requirements(metadata.requires("atrous") or [])]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Install, or say what stays unmeasured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the environment that is made")
    folder = parser.parse_args().folder.absolute()
    code = install(folder)
    if code != 0:
        print(f"no peers fit torch {metadata.version('torch')}, as pip says above: they will be named as missing")
    return code


if __name__ == "__main__":
    sys.exit(main())
