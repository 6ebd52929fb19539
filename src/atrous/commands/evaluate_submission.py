"""The archive for a test server, written by atrous-evaluate submission=voc or cityscapes."""

from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import DictConfig

from atrous.commands.evaluate_subject import Subject
from atrous.commands.progress import progress
from atrous.errors import StoreError
from atrous.evaluation.predicting import Progress, check_protocols, predictions
from atrous.evaluation.protocol import load_protocol
from atrous.evaluation.submission import SERVERS, check_submission, write_submission
from atrous.training.measuring import evaluation_folder, feeding_of


def write(subject: Subject, config: DictConfig, protocol: str) -> None:
    """Predict the split and write <run>/evaluation/<entry>/submission_<server>.zip.

    Raises:
        StoreError: the archive is there already.
        DataError: the data set is not the server's.
    """
    server, dataset = SERVERS[config.submission], subject.dataset
    path = evaluation_folder(subject.folder, subject.entry(protocol)) / f"submission_{config.submission}.zip"
    if path.exists() and not config.overwrite:
        raise StoreError(f"{path} is there already; overwrite=true replaces it")
    check_submission(dataset, server)
    if config.threads:
        torch.set_num_threads(config.threads)
    check_protocols(subject.model, {protocol: load_protocol(protocol)})
    ids = [dataset.sample_id(index) for index in range(len(dataset))]
    with progress(f"submission {config.submission}") as report:
        number = write_submission(path, _predicted(subject, protocol, report), server=server, ids=ids)
    print(f"submission: {path}  {number} images")  # noqa: T201


def _predicted(subject: Subject, protocol: str, report: Progress) -> Iterator[tuple[str, tuple[int, int], Any]]:
    dataset = subject.dataset
    passes = predictions(
        subject.model,
        dataset,
        {protocol: load_protocol(protocol)},
        feeding_of(subject.config),
        indices=range(len(dataset)),
        on_progress=report,
    )
    for predicted in passes:
        labels, extents = predicted.labels.cpu().numpy(), predicted.batch["extent"].tolist()
        for index, (height, width), found in zip(predicted.batch["index"].tolist(), extents, labels, strict=True):
            yield dataset.sample_id(index), (height, width), found[:height, :width]
