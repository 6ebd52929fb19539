"""Entries of results.json: what was measured is kept, also where another protocol's outcome has changed."""

from pathlib import Path
from typing import Any

import pytest

from atrous import DeepLabV3
from atrous.data.shapes import Shapes
from atrous.errors import StoreError
from atrous.run_store import RunFolder
from atrous.training.measuring import measure


def test_protocols_that_are_sound_are_saved_before_one_that_has_changed_is_refused(
    tmp_path: Path, scored_config: dict[str, Any], model: DeepLabV3
) -> None:
    folder = RunFolder(tmp_path)
    before = {"miou": 1.0, "confusion": [[1]]}
    folder.add_results(evaluations={"single": before})
    entries = {"single": "single", "single_os8": "single_os8"}
    with pytest.raises(StoreError, match=r"single was measured before with another outcome.*overwrite=true"):
        measure(folder, scored_config, model, Shapes(split="val", length=4, size=65), entries, overwrite=False)
    evaluations = folder.results()["evaluations"]
    assert evaluations["single"] == before
    assert evaluations["single_os8"]["images"] == 4
    assert [folder.records_file(name).is_file() for name in entries] == [False, True]
