"""The archive for a test server, written by atrous-evaluate submission=voc or cityscapes."""

import torch
from omegaconf import DictConfig

from atrous.commands.evaluate_subject import Subject
from atrous.errors import StoreError
from atrous.evaluation.submission import SERVERS, check_submission
from atrous.progress import progress
from atrous.training.submitting import write_archive


def write(subject: Subject, config: DictConfig, protocol: str) -> None:
    """Predict the split and write <run>/evaluation/<entry>/submission_<server>.zip.

    Raises:
        StoreError: the archive is there already.
        DataError: the data set is not the server's.
    """
    entry, server = subject.entry(protocol), config.submission
    path = subject.folder.submission_file(server, entry)
    if path.exists() and not config.overwrite:
        raise StoreError(f"{path} is there already; overwrite=true replaces it")
    check_submission(subject.dataset, SERVERS[server])
    if config.threads:
        torch.set_num_threads(config.threads)
    with progress(f"submission {server}") as report:
        number = write_archive(
            subject.folder,
            subject.config,
            subject.model,
            subject.dataset,
            protocol=protocol,
            entry=entry,
            server=server,
            on_progress=report,
        )
    print(f"submission: {path}  {number} images")  # noqa: T201
