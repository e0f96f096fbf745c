"""Materials: a colour and a solid (three-dimensional) procedural texture, evaluated at surface coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled

Array = NDArray[np.floating]  # float32 throughout; numpy's own annotations often say wider

_LATTICE = np.random.default_rng(20211).random((32, 32, 32), np.float32)


@dataclass(frozen=True)
class Material:
    """Attributes:
    colour, second: linear RGB in [0, 1], the two colours that the texture mixes.
    texture: one of TEXTURES.
    scale: metres per texture feature.
    gloss: strength of the highlight, 0 .. 1.
    seed: offset into the noise.
    """

    colour: tuple[float, float, float]
    second: tuple[float, float, float]
    texture: str = "plain"
    scale: float = 0.1
    gloss: float = 0.0
    seed: int = 0


def value_noise(x: Array) -> Array:
    """Smooth noise in [0, 1] with one feature per unit (value noise on a lattice of period 32, Perlin 1985, after smooth interpolation).

    Args:
        x: float32 [N, 3].
    """
    return _interpolated(np.ascontiguousarray(x, np.float32), _LATTICE)


@compiled
def _interpolated(x, lattice):  # type: ignore[no-untyped-def]
    """:func:`value_noise` from a lattice float32 [32, 32, 32]."""
    out = np.empty(len(x), np.float32)
    for n in range(len(x)):
        i, j, k = np.floor(x[n, 0]), np.floor(x[n, 1]), np.floor(x[n, 2])
        f, g, h = x[n, 0] - i, x[n, 1] - j, x[n, 2] - k
        f, g, h = f * f * (3 - 2 * f), g * g * (3 - 2 * g), h * h * (3 - 2 * h)
        i0, j0, k0 = int(i) & 31, int(j) & 31, int(k) & 31
        i1, j1, k1 = (i0 + 1) & 31, (j0 + 1) & 31, (k0 + 1) & 31
        a = lattice[i0, j0, k0] * (1 - f) + lattice[i1, j0, k0] * f
        b = lattice[i0, j1, k0] * (1 - f) + lattice[i1, j1, k0] * f
        c = lattice[i0, j0, k1] * (1 - f) + lattice[i1, j0, k1] * f
        d = lattice[i0, j1, k1] * (1 - f) + lattice[i1, j1, k1] * f
        out[n] = (a * (1 - g) + b * g) * (1 - h) + (c * (1 - g) + d * g) * h
    return out


def _mottled(p: Array) -> Array:
    return 0.6 * value_noise(p) + 0.4 * value_noise(3.1 * p)


def _wood(p: Array) -> Array:
    # grain along the local x axis; rings bent by low noise
    q = p * np.array([0.12, 1, 1], np.float32)
    ring = np.hypot(q[:, 1] + 0.7, q[:, 2] - 3.3) * 1.7 + 2.0 * value_noise(q * 0.6)
    return 0.65 * np.abs(np.sin(np.pi * ring)) + 0.35 * value_noise(q * 6)


def _weave(p: Array) -> Array:
    s = np.sin(2 * np.pi * p)
    return np.clip(0.5 + 0.3 * s[:, 0] * s[:, 1] * (1 - np.abs(s[:, 2])) + 0.5 * (value_noise(2 * p) - 0.5), 0, 1)


def _stripes(p: Array) -> Array:
    return (np.mod(p[:, 0] + p[:, 2] * 0, 1) < 0.5).astype(np.float32)


def _checker(p: Array) -> Array:
    return np.mod(np.floor(p[:, 0]) + np.floor(p[:, 1]), 2).astype(np.float32)


def _tiles(p: Array) -> Array:
    edge = np.minimum(np.mod(p[:, 0], 1), np.mod(p[:, 1], 1)) < 0.035
    return np.where(edge, np.float32(1), np.float32(0.35) * value_noise(np.floor(p) * 7.3 + 0.5))


def _planks(p: Array) -> Array:
    row = np.floor(p[:, 1])
    along = p[:, 0] * 0.16 + np.mod(row * 0.37, 1)
    board = np.stack([np.floor(along), row, row * 0], axis=1)
    edge = (np.mod(p[:, 1], 1) < 0.04) | (np.mod(along, 1) < 0.006)
    grain = value_noise(p * np.array([0.5, 7, 1], np.float32) + board * 5.3)
    return np.where(edge, np.float32(1), 0.55 * value_noise(board * 3.7 + 0.5) + 0.3 * grain)


def _brick(p: Array) -> Array:
    row = np.floor(p[:, 1] * 2)
    along = p[:, 0] + 0.5 * np.mod(row, 2)
    joint = (np.mod(p[:, 1] * 2, 1) < 0.12) | (np.mod(along, 1) < 0.06)
    brick = np.stack([np.floor(along), row, row * 0], axis=1)
    return np.where(joint, np.float32(1), 0.5 * value_noise(brick * 3.3 + 0.5) + 0.2 * value_noise(p * 9))


TEXTURES = {
    "mottled": _mottled,
    "wood": _wood,
    "weave": _weave,
    "stripes": _stripes,
    "checker": _checker,
    "tiles": _tiles,
    "planks": _planks,
    "brick": _brick,
}


def albedo(material: Material, local: Array) -> Array:
    """Linear RGB float32 [N, 3] of ``material`` at surface coordinates ``local`` [N, 3] (metres, frame of the solid)."""
    first, second = np.array(material.colour, np.float32), np.array(material.second, np.float32)
    if material.texture == "plain":
        return np.broadcast_to(first, local.shape)
    shift = np.random.default_rng(material.seed).random(3, np.float32) * 17
    mix = TEXTURES[material.texture](local / np.float32(material.scale) + shift)
    return first + mix[:, None].astype(np.float32) * (second - first)


def linear(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """Linear RGB of an HSV colour (each in [0, 1]; display gamma 2.2)."""
    rgb = cv2.cvtColor(np.array([[[hue % 1.0 * 360, saturation, value]]], np.float32), cv2.COLOR_HSV2RGB)[0, 0]
    r, g, b = (float(c) ** 2.2 for c in rgb)
    return r, g, b


Colour = tuple[float, float, float]


def _shades(hue: float, saturation: float, value: float, second: float) -> tuple[Colour, Colour]:
    return linear(hue, saturation, value), linear(hue, saturation, min(1.0, value * second))


def wood(rng: np.random.Generator) -> Material:
    """Light to dark brown with grain."""
    tone = _shades(rng.uniform(0.05, 0.1), rng.uniform(0.25, 0.65), rng.uniform(0.3, 0.85), rng.uniform(0.6, 0.85))
    return Material(*tone, texture="wood", scale=rng.uniform(0.04, 0.09), gloss=rng.uniform(0, 0.3), seed=int(rng.integers(1 << 30)))


def metal(rng: np.random.Generator) -> Material:
    """Grey, black or white, glossy."""
    tone = _shades(0.6, rng.uniform(0, 0.08), rng.choice([0.12, 0.35, 0.6, 0.75]) * rng.uniform(0.9, 1.1), 0.9)
    return Material(*tone, texture="mottled", scale=0.3, gloss=rng.uniform(0.4, 0.9), seed=int(rng.integers(1 << 30)))


def paint(rng: np.random.Generator) -> Material:
    """Any colour, smooth: plastic, lacquer, laminate."""
    pale = rng.random() < 0.5
    saturation, value = (rng.uniform(0, 0.15), rng.uniform(0.5, 0.95)) if pale else (rng.uniform(0.3, 0.8), rng.uniform(0.15, 0.8))
    tone = _shades(rng.random(), saturation, value, 0.93)
    return Material(*tone, texture="mottled", scale=0.2, gloss=rng.uniform(0.1, 0.5), seed=int(rng.integers(1 << 30)))


def fabric(rng: np.random.Generator) -> Material:
    """Any colour, woven, mottled or striped."""
    tone = _shades(rng.random(), rng.uniform(0.05, 0.75), rng.uniform(0.15, 0.85), rng.uniform(0.6, 1.3))
    texture = str(rng.choice(["weave", "weave", "mottled", "stripes"]))
    scale = {"weave": 0.02, "mottled": 0.05, "stripes": 0.08}[texture] * rng.uniform(0.7, 1.5)
    return Material(*tone, texture=texture, scale=scale, seed=int(rng.integers(1 << 30)))


def style(rng: np.random.Generator) -> tuple[Material, Material, Material]:
    """The slots that every family uses, (frame, surface, soft), so that the style does not give the family away."""
    makers = (wood, metal, paint)
    frame = makers[rng.choice(3, p=[0.4, 0.35, 0.25])](rng)
    surface = frame if rng.random() < 0.35 else makers[rng.choice(3, p=[0.6, 0.05, 0.35])](rng)
    return frame, surface, fabric(rng) if rng.random() < 0.75 else paint(rng)


def floor(rng: np.random.Generator) -> Material:
    """Planks, tiles, carpet, checker or concrete."""
    texture = str(rng.choice(["planks", "planks", "tiles", "weave", "checker", "mottled"]))
    seed = int(rng.integers(1 << 30))
    if texture == "planks":
        tone = _shades(rng.uniform(0.05, 0.1), rng.uniform(0.15, 0.6), rng.uniform(0.35, 0.85), rng.uniform(0.5, 0.8))
    else:
        hue, saturation = rng.random(), rng.uniform(0, 0.15 if texture != "weave" else 0.4)
        tone = _shades(hue, saturation, rng.uniform(0.3, 0.8), rng.uniform(0.6, 0.85))
    scale = {"planks": 0.13, "tiles": 0.35, "weave": 0.03, "checker": 0.3, "mottled": 0.25}[texture] * rng.uniform(0.8, 1.4)
    return Material(*tone, texture=texture, scale=scale, gloss=0.15 if texture in ("planks", "tiles") else 0.0, seed=seed)


def wall(rng: np.random.Generator) -> Material:
    """Plaster, wallpaper or brick, mostly pale."""
    texture = str(rng.choice(["mottled", "mottled", "mottled", "stripes", "brick", "weave"]))
    seed = int(rng.integers(1 << 30))
    if texture == "brick":
        tone = linear(rng.uniform(0, 0.08), rng.uniform(0.1, 0.6), rng.uniform(0.4, 0.8)), linear(0.1, 0.05, 0.75)
    else:
        tone = _shades(rng.random(), rng.uniform(0, 0.25), rng.uniform(0.6, 0.95), rng.uniform(0.86, 0.96))
    scale = {"mottled": 0.15, "stripes": 0.25, "brick": 0.28, "weave": 0.06}[texture] * rng.uniform(0.8, 1.3)
    return Material(*tone, texture=texture, scale=scale, seed=seed)
