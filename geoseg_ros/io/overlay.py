"""Labels drawn over an image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def draw_overlay(image: NDArray[np.uint8], mask: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with every label painted over it half transparently and outlined.

    Args:
        image: uint8 RGB [H, W, 3].
        mask: uint8 [H, W] of label ids, 0 = none.
        palette: uint8 RGB [labels + 1, 3], row 0 unused.

    Returns:
        uint8 RGB [H, W, 3].
    """
    drawn = image.copy()
    left, top, wide, high = cv2.boundingRect(mask)
    if not wide:
        return drawn
    width = max(1, round(max(mask.shape) / 500))
    part = np.s_[max(top - width, 0) : top + high + width, max(left - width, 0) : left + wide + width]
    label, below = np.ascontiguousarray(mask[part]), image[part]
    table = palette[np.minimum(np.arange(256), len(palette) - 1)]
    colours = np.asarray(cv2.LUT(cv2.merge([label] * 3), table[:, None]), np.uint8)
    blend = (below >> 1) + (colours >> 1) + ((below | colours) & 1)  # the mean, rounded up, without leaving uint8
    # the outline is where the label differs from that of a neighbour: morphological gradient of the label image
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    outline = (cv2.dilate(label, kernel) != cv2.erode(label, kernel)).view(np.uint8)
    cv2.copyTo(colours, outline, blend)
    cv2.copyTo(blend, label, drawn[part])
    return drawn
