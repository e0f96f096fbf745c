"""Figures and pictures of a demo run, from the recordings of the node's inputs and outputs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import GeosegError
from geoseg_ros.evaluate.demo_report import Scores, cloud_sheet, image_sheet
from geoseg_ros.evaluate.items import spread
from geoseg_ros.files import write_text
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from geoseg_ros.io.folders import write_image
from geoseg_ros.io.messages.results import labelled_cloud
from geoseg_ros.io.recordings import Recording
from geoseg_ros.results import LabelSpace
from geoseg_ros.simulation.truth import Truth

CLOUDS_SHOWN = 4
IMAGES_SHOWN = 12

Labelled = tuple[int, NDArray[np.uint8]]  # stamp of the input in nanoseconds, labels


def labelled_clouds(recording: Recording, topic: str) -> Iterator[Labelled]:
    """Stamp and labels [N] of every cloud that the node published."""
    for message in recording.messages([topic]):
        decoded = recording.decode(message)
        yield codec.stamp_ns(decoded.header), labelled_cloud(decoded, topic)[1].astype(np.uint8)


def masks(recording: Recording, topic: str) -> Iterator[Labelled]:
    """Stamp and labels [H, W] of every mask that the node published."""
    for message in recording.messages([topic]):
        decoded = recording.decode(message)
        yield codec.stamp_ns(decoded.header), np.asarray(decoded.data).reshape(decoded.height, decoded.width)


def summarise(
    played: str | os.PathLike[str],
    published: str | os.PathLike[str],
    live: dict[str, Any],
    cloud_topic: str | None,
    image_topic: str | None,
    out: Path,
    truth: Truth | None = None,
    node: str = "/coseg_node",
) -> dict[str, Any]:
    """Write ``out``/report.json, clouds.png and images.png.

    Args:
        played, published: recordings of the input and of the node's output.
        live: the result of ``run_live``.
        cloud_topic, image_topic: in ``played``.
        truth: of ``played``, or None; it has its own order of concepts.

    Returns:
        The report: ``node``, ``streams`` (counts and latencies), ``published``, ``judged`` (items), ``concepts`` (figures, empty
        without truth), ``files``.
    """
    recorder, player = live["recorder"], live["player"]
    names = tuple(recorder["packs"])
    scores = Scores(names)
    true_label = _label_table(truth, names)
    with Recording(published) as recording:
        clouds = _pick(
            _published(recording, f"{node}/points_labeled", labelled_clouds),
            CLOUDS_SHOWN,
            None if truth is None else lambda stamp: true_label[truth.cloud(stamp)],
            scores.add_cloud,
        )
        images = _pick(
            _published(recording, f"{node}/mask", masks),
            IMAGES_SHOWN,
            None if truth is None else lambda stamp: true_label[truth.image(stamp)],
            scores.add_image,
        )
    palette = LabelSpace(names).palette()
    with Recording(played) as recording:
        shown_clouds = ((cloud, *clouds[stamp]) for stamp, cloud in _input_clouds(recording, cloud_topic, clouds))
        shown_images = ((image, *images[stamp]) for stamp, image in _input_images(recording, image_topic, images))
        files = _write_sheets(
            out, {"clouds.png": cloud_sheet(shown_clouds, names, palette), "images.png": image_sheet(shown_images, names, palette)}
        )
    streams = {name: {**stream, "played": player["published"].get(stream["topic"], 0)} for name, stream in recorder["streams"].items()}
    report = {
        "node": {"backend": recorder["backend"], "backbone": recorder["backbone"], "packs": recorder["packs"]},
        "seconds": round(player["seconds"], 3),
        "player_latest_ms": round(1e3 * player["latest"], 1),
        "streams": streams,
        "published": recorder["messages"],
        "judged": {"clouds": scores.clouds, "images": scores.images},
        "concepts": scores.figures() if truth is not None else {},
        "files": [*files, Path(published).name],
    }
    write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    return report


def _write_sheets(out: Path, sheets: dict[str, NDArray[np.uint8] | None]) -> list[str]:
    """Write the sheets that show something; returns their names."""
    written = {name: sheet for name, sheet in sheets.items() if sheet is not None}
    for name, sheet in written.items():
        write_image(out / name, sheet)
    return list(written)


def _published(recording: Recording, topic: str, read: Callable[[Recording, str], Iterator[Labelled]]) -> Callable[[], Iterator[Labelled]]:
    """What ``read`` finds at a topic, again at each call; nothing where the topic is not in the recording."""
    return lambda: read(recording, topic) if topic in recording.topics() else iter(())


def _pick(
    results: Callable[[], Iterator[Labelled]],
    wanted: int,
    true: Callable[[int], NDArray[np.uint8]] | None,
    score: Callable[[NDArray[np.uint8], NDArray[np.uint8]], None],
) -> dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8] | None]]:
    """Score all results, and return some of them for pictures: stamp -> (labels, truth).

    A quarter of them shows no concept, the others do (by the truth where it is known); both kinds are evenly spaced in time.
    """
    stamps: dict[bool, list[int]] = {True: [], False: []}
    for stamp, label in results():
        shown = label
        if true is not None:
            try:
                shown = true(stamp)
            except KeyError:
                raise GeosegError(f"the node published the stamp {stamp} ns, which no played message has") from None
            score(label, shown)
        stamps[bool(shown.any())].append(stamp)
    empty = min(wanted // 4, len(stamps[False]))
    chosen = {kind[i] for kind, count in ((stamps[True], wanted - empty), (stamps[False], empty)) for i in spread(len(kind), count)}
    return {stamp: (label, true(stamp) if true is not None else None) for stamp, label in results() if stamp in chosen}


def _label_table(truth: Truth | None, names: tuple[str, ...]) -> NDArray[np.uint8]:
    """uint8 [C + 1]: label of the truth -> label of the node; 0 for concepts that the node does not know."""
    concepts = () if truth is None else tuple(str(name) for name in truth.concepts)
    return np.array([0, *(names.index(name) + 1 if name in names else 0 for name in concepts)], np.uint8)


def _input_clouds(recording: Recording, topic: str | None, stamps: Collection[int]) -> Iterator[tuple[int, Cloud]]:
    for stamp, message in _inputs(recording, topic, stamps):
        yield stamp, codec.cloud_from_message(message)


def _input_images(recording: Recording, topic: str | None, stamps: Collection[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    for stamp, message in _inputs(recording, topic, stamps):
        yield stamp, codec.image_from_message(message)


def _inputs(recording: Recording, topic: str | None, stamps: Collection[int]) -> Iterator[tuple[int, Any]]:
    """The messages with these stamps in their headers, each stamp once."""
    left = set(stamps)
    for message in recording.messages([topic]) if topic else ():
        decoded = recording.decode(message)
        stamp = codec.stamp_ns(decoded.header)
        if stamp in left:
            left.remove(stamp)
            yield stamp, decoded
