"""Results of a recording against a user's labels of some of its clouds and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.demo_report import Scores
from geoseg_ros.io import messages as codec
from geoseg_ros.io.messages import CLOUD_TYPE, COMPRESSED_TYPE
from geoseg_ros.io.messages.clouds import LABELLED_FIELDS
from geoseg_ros.io.messages.results import labelled_cloud, point_field
from geoseg_ros.io.recordings import Recording
from geoseg_ros.io.truth_labels import UNCOUNTED, Labels, TruthItem, TruthLabels
from geoseg_ros.runtime.replay import NODE, ReplayReport

Pairs = dict[int, TruthItem]  # stamp of the header, nanoseconds -> its labels
_LABEL = dict(LABELLED_FIELDS)["label"]


def pair(recording: Recording, chosen: Mapping[str, set[str]], truth: TruthLabels) -> tuple[Pairs, Pairs]:
    """Find the message of every label, and check its size.

    Args:
        recording: of the inputs.
        chosen: topic -> what it is taken for, of :func:`~geoseg_ros.runtime.replay.choose_topics`.

    Returns:
        The labels of the clouds and of the images.

    Raises:
        InputError: a label without its message, two for one message, another size, or a damaged file.
    """
    found = []
    for kind, names, items in (("clouds", {"points", "depth"}, truth.clouds), ("images", {"image"}, truth.images)):
        topic = next((topic for topic, taken in chosen.items() if taken & names), None)
        if items and topic is None:
            raise InputError(f"{recording.path}: {items[0].name} and others are labels of {kind}, and no {kind} are worked on")
        found.append(_paired(recording, topic, items, kind == "clouds") if topic and items else {})
    return found[0], found[1]


def _paired(recording: Recording, topic: str, items: Sequence[TruthItem], cloud: bool) -> Pairs:
    by_stamp, by_index = ({key: item for item in items if (key := getattr(item, name)) is not None} for name in ("stamp_ns", "index"))
    if len(by_stamp) + len(by_index) < len(items):
        raise InputError(f"{items[0].name} and others: two labels of one message")
    kind, found, stamps = recording.topics()[topic].type, Pairs(), []
    for index, raw in enumerate(recording.messages([topic])):
        message = recording.decode(raw)
        stamps.append(stamp := codec.stamp_ns(message.header))
        item = by_stamp.get(stamp, by_index.get(index))
        if item is not None and stamp in found and found[stamp] is not item:
            raise InputError(f"{item.name}: two labels of the message with the stamp {stamp} ns")
        if item is not None:
            found[stamp] = item
            _check(message, kind, topic, item, cloud)
    missing = next((item for item in items if item not in found.values()), None)
    if missing is not None:
        wanted = f"number {missing.index}" if missing.stamp_ns is None else f"the stamp {missing.stamp_ns} ns"
        there = f"it has {len(stamps)}, stamps {min(stamps)} to {max(stamps)} ns"
        raise InputError(f"{missing.name}: no message of {topic} in {recording.path} has {wanted}; {there}")
    return found


def _check(message: Any, kind: str, topic: str, item: TruthItem, cloud: bool) -> None:
    """Raise InputError unless the labels fit the message; one that cannot be decoded is for the replay to reject."""
    try:
        if kind == CLOUD_TYPE:
            shape: Any = codec.cloud_from_message(message, topic).valid()
        elif kind == COMPRESSED_TYPE:
            shape = codec.image_from_compressed(message, topic).shape[:2]
        else:
            shape = int(message.height), int(message.width)
    except InputError:
        return
    if kind == CLOUD_TYPE:
        _of_points(item, shape)
    else:  # what a depth image has measured shows in its cloud
        item.read(None if cloud else shape)


def _of_points(item: TruthItem, valid: NDArray[np.bool_]) -> tuple[Labels, Labels | None]:
    """Labels and instances of all points of a cloud, of a file that may have left out points without a measurement: these do not count."""
    read = item.read(None)
    if len(read[0]) == len(valid):
        return read
    use = np.flatnonzero(valid)
    if len(read[0]) != len(use):
        measured = "" if len(use) == len(valid) else f", {len(use)} of them measured"
        raise InputError(f"{item.name}: {len(read[0])} labels, the cloud of the recording has {len(valid)} points{measured}")
    label = np.full(len(valid), UNCOUNTED, np.int64)
    label[use] = read[0]
    instance = None
    if read[1] is not None:
        instance = np.zeros(len(valid), np.int64)
        instance[use] = read[1]
    return label, instance


def targets(names: Sequence[str], truth: TruthLabels) -> list[str]:
    """The names of the packs that are in the labels. Raises InputError: there is none."""
    both = [name for name in names if name in truth.names]
    if not both:
        raise InputError(
            f"no target is in the labels, which have {', '.join(truth.names) or 'no names'}; the packs find {', '.join(names)}"
        )
    return both


def score(results: Recording, names: Sequence[str], truth: TruthLabels, clouds: Pairs, images: Pairs, node: str = NODE) -> Scores:
    """Compare a replay's results with the labels. A message without a result counts as one in which nothing was found.

    Args:
        names: of the labels of the results.
        clouds, images: of :func:`pair`.

    Raises:
        InputError: as :func:`targets`, or a label has another size than its message.
    """
    both = targets(names, truth)
    scores = Scores(both)
    mine, theirs = (_table(own, both) for own in (names, truth.names))
    topics = results.topics()
    left = {**clouds}
    for raw in results.messages([topic]) if left and (topic := f"{node}/points_labeled") in topics else ():
        message = results.decode(raw)
        item = left.pop(codec.stamp_ns(message.header), None)
        if item is not None:
            cloud, label = labelled_cloud(message, raw.topic)
            number = point_field(message, "instance", _LABEL)
            true, true_number = _of_points(item, cloud.valid())
            use = true != UNCOUNTED
            numbers = None if number is None or true_number is None else (number[use].astype(np.int64), true_number[use])
            scores.add_cloud(mine[label[use]], theirs[true[use]], numbers)
    for item in left.values():
        true, true_number = item.read(None)
        zeros = np.zeros_like(true)
        scores.add_cloud(zeros, theirs[np.maximum(true, 0)], None if true_number is None else (zeros, true_number))
    left = {**images}
    for raw in results.messages([topic]) if left and (topic := f"{node}/mask") in topics else ():
        message = results.decode(raw)
        item = left.pop(codec.stamp_ns(message.header), None)
        if item is not None:
            _add_image(scores, np.asarray(message.data).reshape(message.height, message.width), item, mine, theirs)
    for item in left.values():
        _add_image(scores, np.uint8(0), item, mine, theirs)
    return scores


def _add_image(scores: Scores, mask: Any, item: TruthItem, mine: Labels, theirs: Labels) -> None:
    true = item.read(mask.shape or None)[0]
    use = true != UNCOUNTED
    scores.add_image(mine[np.broadcast_to(mask, true.shape)[use]], theirs[true[use]])


def _table(names: Sequence[str], both: Sequence[str]) -> Labels:
    """Label in ``names`` -> label in ``both``; 0 for others."""
    return np.array([0, *(both.index(name) + 1 if name in both else 0 for name in names)], np.int64)


def report(scores: Scores, replayed: ReplayReport, names: Sequence[str], truth: TruthLabels) -> dict[str, Any]:
    """The figures of one recording, as JSON can hold them; ``counts`` are for :meth:`Scores.add_counts`."""
    latency = {
        kind: {f"p{q}_ms": round(1e3 * float(np.percentile(seconds, q)), 1) for q in (50, 95)}
        for kind, seconds in (("clouds", replayed.cloud_seconds), ("images", replayed.image_seconds))
        if seconds
    }
    return {
        "messages": {"clouds": replayed.clouds, "images": replayed.images, "rejected": len(replayed.rejected)},
        "latency": latency,
        "not_measured": [name for name in names if name not in truth.names],
        "not_wanted": [name for name in truth.names if name not in names],
        "counts": scores.counts(),
        **figures(scores),
    }


def figures(scores: Scores) -> dict[str, Any]:
    """How many items were judged, and the figures of each target."""
    found, objects = scores.figures(), scores.objects()
    return {
        "judged": {"clouds": scores.clouds, "images": scores.images},
        "targets": {name: objects[name] | found[name] for name in scores.names},
    }


_COLUMNS = {
    "clouds": "clouds with it",
    "cloud_iou": "IoU of points",
    "object_precision": "object precision",
    "object_recall": "object recall",
    "cloud_false": "false clouds",
    "images": "images with it",
    "image_j": "J of images",
    "image_false": "false images",
}


def markdown(result: Mapping[str, Any], title: str) -> str:
    """The figures of one recording, or of several together, as a Markdown table."""
    lines = [f"# {title}", "", f"| target | {' | '.join(_COLUMNS.values())} |", "|---" * (len(_COLUMNS) + 1) + "|"]
    for name, row in result["targets"].items():
        cells = ["-" if (value := row[key]) is None else str(value) if isinstance(value, int) else f"{value:.3f}" for key in _COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"Judged: {result['judged']['clouds']} clouds and {result['judged']['images']} images, those with labels."]
    if "messages" in result:
        counts = result["messages"]
        lines[-1] += f" The recording gave {counts['clouds']} and {counts['images']} results, {counts['rejected']} messages were rejected."
    for kind, values in result.get("latency", {}).items():
        lines.append(f"Pipeline, {kind}: median {values['p50_ms']:g} ms, 95 % below {values['p95_ms']:g} ms.")
    for key, text in (("not_measured", "Not in the labels, not measured"), ("not_wanted", "In the labels, found by no pack")):
        if result.get(key):
            lines.append(f"{text}: {', '.join(result[key])}.")
    return "\n".join([*lines, ""])


def combined(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of several recordings together; each concept counts where it was measured."""
    names = dict.fromkeys(name for result in results for name in result["targets"])
    total = Scores(tuple(names))
    for result in results:
        total.add_counts(result["counts"])
    return figures(total)
