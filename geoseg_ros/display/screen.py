"""A frame as one picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.display.boxes import draw_boxes
from geoseg_ros.display.frame import LabelledCloud, LabelledFrame, LabelledImage
from geoseg_ros.display.pictures import Colour, captioned, contact_sheet, draw_cloud, fit, label_colours, legend, plain
from geoseg_ros.results import LabelSpace

_CELL = (760, 570)


def draw_frame(frame: LabelledFrame) -> NDArray[np.uint8]:
    """The labelled cloud with boxes and names, and beside it the image with its labels; uint8 RGB. What has not come is left out.

    Raises:
        ValueError: neither is there.
    """
    cells = []
    if frame.cloud is not None:
        cells.append(_cloud_cell(frame.cloud, frame.labels))
    if frame.image is not None:
        cells.append(_image_cell(frame.image, frame.labels))
    if not cells:
        raise ValueError("frame: expected a cloud or an image")
    return contact_sheet(cells, len(cells))


def _cloud_cell(shown: LabelledCloud, labels: LabelSpace) -> NDArray[np.uint8]:
    palette = labels.palette()
    drawing = draw_cloud(shown.cloud, label_colours(shown.cloud, shown.label, palette), _CELL, shown.label > 0)
    count = len(shown.objects)
    objects = f"objects are in {shown.objects_frame}" if shown.objects_frame else f"{count} object{'s' * (count != 1)}"
    text = f"cloud {_seconds(shown.stamp_ns)}, {shown.frame}: {objects}"
    return captioned(draw_boxes(drawing, shown.objects, palette), [plain(text), *legend(labels.names, palette)])


def _image_cell(shown: LabelledImage, labels: LabelSpace) -> NDArray[np.uint8]:
    parts: list[tuple[str, Colour]] = legend(labels.names, labels.palette())
    if shown.found is not None:
        parts = [part for i, part in enumerate(parts, 1) if i in shown.found] or [plain("none found")]
    return captioned(fit(shown.picture, _CELL), [plain(f"image {_seconds(shown.stamp_ns)}:"), *parts])


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns // 10**9}.{stamp_ns % 10**9 // 10**6:03d} s"
