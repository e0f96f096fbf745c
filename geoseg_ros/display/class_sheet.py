"""The sheet of a scene pack: what each of its classes looks like."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.display.pictures import Image

_WIDTH = 320  # pixels of the column with the names
_LINES = ((1.4, 0.3), (0.6, 0.56), (0.5, 0.78))  # size of the letters; height of each line, share of the row's
_PLAIN = 160  # pixels, height of a row without a picture


def class_sheet(
    names: Sequence[str], shares: Sequence[float], class_of: NDArray[np.integer], pictures: Sequence[NDArray[np.uint8]]
) -> Image:
    """Number, name and share of each class beside the pictures of its centroids, uint8 RGB.

    Args:
        names: of C classes.
        shares: of the points learnt from, 0 .. 1.
        class_of: int [K], class of each centroid, 0 .. C - 1.
        pictures: K JPEG files, uint8, all of one size; or none.
    """
    drawn = [np.asarray(cv2.imdecode(picture, cv2.IMREAD_COLOR), np.uint8)[..., ::-1] for picture in pictures]
    rows = []
    for number, (name, share) in enumerate(zip(names, shares, strict=True), 1):
        own = [drawn[k] for k in np.flatnonzero(class_of == number - 1)] if drawn else []
        height = own[0].shape[0] if own else _PLAIN
        text = np.full((height, _WIDTH, 3), 255, np.uint8)
        shown = name.encode("ascii", "replace").decode()  # OpenCV draws no other letters
        for (size, place), line in zip(_LINES, (str(number), shown[:24], f"{100 * share:.1f} % of the points"), strict=True):
            cv2.putText(text, line, (12, round(place * height)), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1 + (size > 1), cv2.LINE_AA)
        rows.append(np.hstack([text, own[0]]) if own else text)
        rows += [np.hstack([np.full_like(text, 255), picture]) for picture in own[1:]]
    return np.vstack(rows)
