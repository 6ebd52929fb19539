"""Names that a package imports when they are first asked for."""

import subprocess
import sys
from importlib import import_module

import pytest

PACKAGES = ["atrous.data", "atrous.networks", "atrous.prediction", "atrous.weights"]


@pytest.mark.parametrize("room", ["networks", "weights"])
def test_rooms_of_the_readme_are_there_without_an_import_of_their_own(room: str) -> None:
    command = f"import atrous; assert {room!r} in dir(atrous); print(atrous.{room}.__name__)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == f"atrous.{room}\n"


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_has_the_names_that_it_lists_and_no_other(name: str) -> None:
    package = import_module(name)
    assert dir(package) == sorted(package.__all__)
    for listed in package.__all__:
        assert getattr(package, listed).__name__ == listed
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'Typo'"):
        _ = package.Typo
