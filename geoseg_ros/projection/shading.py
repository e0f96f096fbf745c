"""Pictures of renderings: in colour, shaded, and with darkened depth edges."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.projection.cameras import Camera
from geoseg_ros.projection.render import Rendering

GREY = 128
SHADINGS = ("lambert", "normals")

_AMBIENT, _VIEWER, _SIDE = 0.15, 0.45, 0.4  # shares of the light
_SIDE_DIRECTION = (-0.6, -0.65, -0.47)  # of the second light: from the upper left, in front; right, down, forward
_REACH, _STRENGTH, _STEP = 3, 11.0, 0.03  # of eye-dome lighting: pixels, per unit of log depth, largest step that counts in one direction
_NOTHING = 10.0  # log depth of empty pixels; 22 km


def colour_picture(rendering: Rendering, rgb: NDArray[np.uint8], background: int = GREY) -> NDArray[np.uint8]:
    """A picture in the colours of the points.

    Args:
        rendering: of n points.
        rgb: uint8 [n, 3], their colours.
        background: grey level of pixels that show nothing.

    Returns:
        uint8 RGB [H, W, 3].
    """
    picture = np.full((*rendering.index.shape, 3), background, np.uint8)
    _paint(rendering.index, _rows(rendering, rgb, np.uint8), picture)
    return picture


def shaded_picture(
    rendering: Rendering, camera: Camera, normal: NDArray[np.floating], shading: str = "lambert", background: int = GREY
) -> NDArray[np.uint8]:
    """A picture of grey surfaces under the light of the viewer; the sign of the normals does not matter.

    Every pixel is the mean over the shown ones among 3x3, as estimated normals are noisy. (A wider window costs more recognition than noise
    does.)

    Args:
        rendering: of n points. camera: that it was drawn with.
        normal: [n, 3], unit, world; NaN where unknown, which is drawn dark.
        shading: ``lambert`` (a light at the viewer and one from the upper left) or ``normals`` (the normal's directions right, up and
            towards the viewer as red, green and blue).
        background: grey level of pixels that show nothing.

    Returns:
        uint8 RGB [H, W, 3].
    """
    if shading not in SHADINGS:
        raise ValueError(f"shading: expected one of {', '.join(SHADINGS)}, got '{shading}'")
    picture = np.full((*rendering.index.shape, 3), background, np.uint8)
    rows, rotation = _rows(rendering, normal, np.float32), camera.rotation.astype(np.float32)
    light = np.empty((*rendering.index.shape, 3 if shading == "normals" else 1), np.float32)
    _light(rendering.index, rows, rotation, light)
    _smooth(rendering.index, light, picture)
    return picture


def _rows(rendering: Rendering, values: NDArray, dtype: type) -> NDArray:
    """``values`` [n, 3], checked to have a row for every point shown, because compiled functions do not check indices."""
    count = rendering.index.max(initial=-1) + 1
    if values.ndim != 2 or values.shape[1] != 3 or len(values) < count:
        raise ValueError(f"expected [n >= {count}, 3], a row for each point that is shown, got {values.shape}")
    return np.ascontiguousarray(values, dtype)


@compiled
def _paint(index, rgb, picture):  # type: ignore[no-untyped-def]
    """Fill the shown pixels of ``picture`` [H, W, 3]."""
    for v in range(index.shape[0]):
        for u in range(index.shape[1]):
            if index[v, u] >= 0:
                picture[v, u] = rgb[index[v, u]]


@compiled
def _light(index, normal, rotation, light):  # type: ignore[no-untyped-def]
    """Fill the shown pixels of ``light``, float32 [H, W, 1 or 3], 0 to 255; see :func:`shaded_picture`."""
    for v in range(index.shape[0]):
        for u in range(index.shape[1]):
            if index[v, u] < 0:
                continue
            x, y, z = normal[index[v, u], 0], normal[index[v, u], 1], normal[index[v, u], 2]
            if not np.isfinite(x + y + z):
                x, y, z = np.float32(0), np.float32(0), np.float32(0)
            right = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z
            down = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z
            forward = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z
            if forward > 0:  # turned towards the viewer
                right, down, forward = -right, -down, -forward
            if light.shape[2] == 3:
                light[v, u, 0], light[v, u, 1], light[v, u, 2] = 127.5 + 127.5 * right, 127.5 - 127.5 * down, 127.5 - 127.5 * forward
            else:
                side = _SIDE_DIRECTION[0] * right + _SIDE_DIRECTION[1] * down + _SIDE_DIRECTION[2] * forward
                light[v, u, 0] = 255 * (_AMBIENT - _VIEWER * forward + _SIDE * max(side, 0.0))


@compiled
def _smooth(index, light, picture):  # type: ignore[no-untyped-def]
    """Fill the shown pixels of ``picture`` [H, W, 3] with the mean of ``light`` [H, W, 1 or 3] over the shown ones among 3x3."""
    height, width, channels = light.shape
    for v in range(height):
        for u in range(width):
            if index[v, u] < 0:
                continue
            for k in range(channels):
                total, count = 0.0, 0
                for row in range(max(v - 1, 0), min(v + 2, height)):
                    for column in range(max(u - 1, 0), min(u + 2, width)):
                        if index[row, column] >= 0:
                            total += light[row, column, k]
                            count += 1
                picture[v, u, k] = np.uint8(min(max(total / count + 0.5, 0.0), 255.0))
            if channels == 1:
                picture[v, u, 1], picture[v, u, 2] = picture[v, u, 0], picture[v, u, 0]


def eye_dome(image: NDArray[np.uint8], rendering: Rendering) -> NDArray[np.uint8]:
    """Darken pixels whose neighbours are nearer (eye-dome lighting, Boucheny 2009), which shows the shape of objects of one colour.

    Args:
        image: uint8 RGB [H, W, 3]. rendering: what its pixels show.
    """
    shown, depth = rendering.shown, rendering.depth
    far = np.log(depth, where=shown, out=np.full(depth.shape, _NOTHING, np.float32))
    smooth = cv2.medianBlur(far, 5)  # takes away the noise of depth cameras, and thin borders, which stay as they are
    far = np.where(shown & (smooth < _NOTHING), smooth, far)
    hidden = np.zeros_like(far)
    for dv, du in ((_REACH, 0), (-_REACH, 0), (0, _REACH), (0, -_REACH)):
        shift = np.array([[1, 0, du], [0, 1, dv]], np.float64)
        beside = cv2.warpAffine(far, shift, far.shape[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        hidden += np.clip(far - beside, 0, _STEP)
    shade = np.where(shown, np.exp(-_STRENGTH * hidden), 1)
    return np.rint(image * shade[..., None]).astype(np.uint8)
