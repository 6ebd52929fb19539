"""Names that a package imports when they are first asked for."""

from importlib import import_module

import pytest

PACKAGES = ["atrous.data", "atrous.networks", "atrous.prediction", "atrous.weights"]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_has_the_names_that_it_lists_and_no_other(name: str) -> None:
    package = import_module(name)
    assert dir(package) == sorted(package.__all__)
    for listed in package.__all__:
        assert getattr(package, listed).__name__ == listed
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'Typo'"):
        _ = package.Typo
