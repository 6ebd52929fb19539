"""What a run is told of its data: a folder and a class list that nothing reads."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from atrous.studies.configuration import resolve
from atrous.studies.run_warnings import run_warnings


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ("", []),
        ("data.root=/photos", ["data.root=/photos is read by no data set of this run, which takes Shapes"]),
        ("data=voc data.root=/voc", []),
        ("data=folder data.root=/photos data.classes=classes.yaml", []),
        ("data=voc data.root=/voc data.classes=[a,b]", ["data.classes=[...] is read by no data set of this run"]),
        ("data.root=/photos +data.train.folder=${data.root}/left", []),
        ("data.root=/voc table=deeplabv3/table1", []),
    ],
)
def test_a_folder_that_nothing_reads_is_told(
    composed: Callable[..., DictConfig], overrides: str, told: list[str]
) -> None:
    found = list(run_warnings(resolve(composed(*overrides.split()))))
    assert len(found) == len(told)
    for line, start in zip(found, told, strict=True):
        assert line.startswith(start)
        assert line.endswith("was data=NAME forgotten?")
