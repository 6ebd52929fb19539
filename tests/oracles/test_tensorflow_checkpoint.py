"""Checkpoints written live by the TensorFlow that is installed, read as TensorFlow reads them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from atrous.weights.tf_checkpoint import read_checkpoint

SCRIPT = Path(__file__).parent / "tensorflow" / "write_checkpoint.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of new checkpoints."""
    python = os.environ.get("ATROUS_TENSORFLOW_PYTHON")
    if python is None:
        if importlib.util.find_spec("tensorflow") is None:
            pytest.skip("TensorFlow is absent: set ATROUS_TENSORFLOW_PYTHON to a Python that has it")
        python = sys.executable
    path = tmp_path_factory.mktemp("checkpoint")
    done = subprocess.run([python, str(SCRIPT), str(path), "--large"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["official", "sharded", "object_graph", "large"])
def test_every_value_is_what_tensorflow_reads(folder: Path, name: str) -> None:
    checkpoint, expected = read_checkpoint(folder / name), np.load(folder / f"{name}.npz")
    assert set(checkpoint) == set(expected.files)
    for variable, value in expected.items():
        np.testing.assert_array_equal(checkpoint[variable], value, strict=True)
