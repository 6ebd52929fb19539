"""From trained weights to the archive that a test server scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from atrous import run_files
from atrous.building import build_test_set
from atrous.data.dataset import SegmentationDataset
from atrous.evaluation.predicting import Progress, check_protocols, predicted_images, silent
from atrous.evaluation.protocol import load_protocol
from atrous.evaluation.submission import SERVERS, check_submission, write_submission
from atrous.networks.segmenter import Segmenter
from atrous.run_store import RunFolder
from atrous.training.measuring import feeding_of

Config = Mapping[str, Any]


def submit(
    folder: RunFolder,
    config: Config,
    model: Segmenter,
    protocols: Sequence[str],
    *,
    on_progress: Progress = silent,
) -> None:
    """Predict the test split of a run's data and write an archive per protocol.

    Args:
        folder: of the run.
        config: of the run; `submission` names the server.
        model: with its weights.
        protocols: names.
        on_progress: told (images done, images in all) of each archive.

    Raises:
        ConfigError: a protocol does not fit the network.
        DataError: the data set is not the server's.
    """
    dataset = build_test_set(config["data"])
    for name in protocols:
        write_archive(
            folder,
            config,
            model,
            dataset,
            protocol=name,
            entry=name,
            server=config["submission"],
            on_progress=on_progress,
        )


def write_archive(
    folder: RunFolder,
    config: Config,
    model: Segmenter,
    dataset: SegmentationDataset,
    *,
    protocol: str,
    entry: str,
    server: str,
    on_progress: Progress = silent,
) -> int:
    """Predict a data set and write <run>/evaluation/<entry>/submission_<server>.zip.

    Args:
        folder: of the run.
        config: of the run.
        model: with its weights.
        dataset: the images.
        protocol: name of the protocol.
        entry: under which name its files are kept.
        server: name of the server.
        on_progress: told (images done, images in all).

    Returns:
        The number of images.

    Raises:
        ConfigError: the protocol does not fit the network.
        DataError: the data set is not the server's.
    """
    check_submission(dataset, SERVERS[server])
    settings = load_protocol(protocol)
    check_protocols(model, {protocol: settings})
    ids = [dataset.sample_id(index) for index in range(len(dataset))]
    found = predicted_images(model, dataset, settings, feeding_of(config), on_progress=on_progress)
    run_files.require(folder.path)
    return write_submission(folder.submission_file(server, entry), found, server=SERVERS[server], ids=ids)
