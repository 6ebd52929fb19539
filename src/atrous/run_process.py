"""What training and studies say alike of the process that trains a run: what is started, and what its end has cost."""

from contextlib import suppress

from atrous.errors import StoreError
from atrous.run_store import RunFolder

PROGRAM = ("-m", "atrous.training.job")


def end_in_words(folder: RunFolder, how: str) -> tuple[str, str]:
    """Where the process was when it was ended without a chance to save, and what is lost.

    Results of the training are written behind its last step, which is saved by then.
    """
    with suppress(StoreError, KeyError, TypeError):
        if folder.results()["training"]["steps"] >= folder.config()["recipe"]["max_steps"]:
            return f"ended {how} in its evaluation", "its training is saved, its evaluation will begin again"
    return f"ended {how} before it could save", "the steps since its last checkpoint are lost"
