"""One thread, and the real images where a machine has them."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts background jobs with Ctrl-C ignored, and what the tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small maps gain nothing from more, and on a busy machine waiting threads cost far more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with the real VOC subset and CamVid."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("ATROUS_TEST_DATA", default))
    if not (folder / "VOCdevkit").is_dir():
        pytest.skip("real images are absent: set ATROUS_TEST_DATA to a folder that holds VOCdevkit and camvid")
    return folder
