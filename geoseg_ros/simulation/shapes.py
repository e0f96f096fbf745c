"""The shapes of furniture: one function per kind, a small part grammar with continuous parameters, sampled per instance.

An object stands in its own frame, in metres: z up, the floor at z = 0, the middle of its footprint near the origin, its front towards +x
(so its back goes to a wall). ``families.py`` lists the kinds that can stand in a room.
"""

from __future__ import annotations

import numpy as np

from geoseg_ros.simulation.solids import Builder

PARTS = (
    "floor", "wall", "ceiling", "fitting",
    "leg", "seat", "back", "arm", "top", "shelf", "side", "front", "base", "pole",
    "shade", "pot", "leaf", "screen", "mattress", "pillow", "body", "handle", "rung",
)  # fmt: skip
LEG, SEAT, BACK, ARM, TOP, SHELF, SIDE, FRONT, BASE, POLE = range(4, 14)
SHADE, POT, LEAF, SCREEN, MATTRESS, PILLOW, BODY, HANDLE, RUNG = range(14, len(PARTS))

FRAME, SURFACE, SOFT, GREEN, DARK = range(5)  # material slots of an object

Rng = np.random.Generator


def _legs(b: Builder, rng: Rng, x: float, y: float, height: float) -> None:
    """Four legs under a plate with half lengths x, y; square or round, straight, splayed or tapered."""
    width, splay = rng.uniform(0.025, 0.05), rng.choice([0.0, 0.0, rng.uniform(0.02, 0.07)])
    x, y = x - width, y - width
    for sx, sy in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        top, foot = (sx * x, sy * y, height), (sx * (x + splay), sy * (y + splay), 0.0)
        if width > 0.037:
            b.bar(LEG, FRAME, foot, top, width, width)
        else:
            b.rod(LEG, FRAME, foot, top, width * 0.4, width * 0.6)


def _backrest(b: Builder, rng: Rng, x: float, half: float, seat: float, top: float, material: int) -> None:
    """A backrest from the seat's rear edge at -x up to ``top``: a panel, slats or a padded panel between two posts."""
    lean = rng.uniform(0.03, 0.12)
    kind = rng.integers(3)
    slope = lean / (top - seat)

    def at(z: float) -> float:
        return -x - slope * (z - seat)

    if kind == 2:
        middle = (seat + top) / 2
        b.box(BACK, material, (at(middle), 0, middle + 0.03), (0.03, 2 * half, top - seat - 0.02), pitch=np.arctan(slope))
        return
    for s in (-1, 1):
        b.bar(BACK, FRAME, (-x, s * (half - 0.02), seat), (at(top), s * (half - 0.02), top), 0.035, 0.035)
    if kind == 0:
        for z in np.linspace(seat + 0.35 * (top - seat), top - 0.04, int(rng.integers(2, 5))):
            b.box(BACK, FRAME, (at(z), 0, z), (0.02, 2 * half - 0.05, 0.055))
    else:
        low = seat + rng.uniform(0.25, 0.45) * (top - seat)
        middle = (low + top) / 2
        b.box(BACK, material, (at(middle), 0, middle), (0.035, 2 * half - 0.06, top - low), pitch=np.arctan(slope))


def chair(b: Builder, rng: Rng) -> None:
    x, y, seat, top = rng.uniform(0.19, 0.24), rng.uniform(0.19, 0.25), rng.uniform(0.42, 0.49), rng.uniform(0.8, 1.05)
    pad = int(rng.choice([SURFACE, SOFT]))
    _legs(b, rng, x, y, seat - 0.02)
    b.box(SEAT, pad, (0, 0, seat), (2 * x, 2 * y, rng.uniform(0.03, 0.07)))
    _backrest(b, rng, x - 0.02, y, seat, top, pad)
    if rng.random() < 0.25:
        for s in (-1, 1):
            b.bar(ARM, FRAME, (-x, s * y, seat + 0.22), (x - 0.05, s * y, seat + 0.2), 0.04, 0.03)
            b.bar(ARM, FRAME, (x - 0.08, s * y, seat), (x - 0.08, s * y, seat + 0.2), 0.03, 0.03)


def _star(b: Builder, rng: Rng, radius: float, height: float) -> None:
    """Five-armed foot with castors."""
    for a in np.linspace(0, 2 * np.pi, 6)[:5] + rng.uniform(0, 1):
        end = (radius * np.cos(a), radius * np.sin(a), 0.07)
        b.bar(BASE, DARK, (0, 0, height), end, 0.05, 0.03)
        b.ellipsoid(BASE, DARK, (end[0], end[1], 0.03), (0.03, 0.03, 0.03))


def office_chair(b: Builder, rng: Rng) -> None:
    x, y, seat, top = rng.uniform(0.22, 0.27), rng.uniform(0.22, 0.27), rng.uniform(0.43, 0.52), rng.uniform(0.9, 1.2)
    _star(b, rng, rng.uniform(0.26, 0.34), 0.12)
    b.rod(POLE, FRAME, (0, 0, 0.1), (0, 0, seat), 0.03)
    b.box(SEAT, SOFT, (0, 0, seat), (2 * x, 2 * y, rng.uniform(0.06, 0.1)))
    low = seat + rng.uniform(0.06, 0.18)
    b.bar(POLE, DARK, (-x + 0.05, 0, seat - 0.02), (-x - 0.04, 0, (low + top) / 2), 0.05, 0.03)
    lengths = (rng.uniform(0.05, 0.09), 2 * y * rng.uniform(0.8, 0.98), top - low)
    b.box(BACK, SOFT, (-x - 0.02, 0, (low + top) / 2), lengths, pitch=rng.uniform(0.05, 0.2))
    if rng.random() < 0.7:
        for s in (-1, 1):
            b.bar(ARM, DARK, (0, s * (y + 0.02), seat), (0, s * (y + 0.04), seat + 0.22), 0.04, 0.03)
            b.box(ARM, DARK, (0, s * (y + 0.04), seat + 0.23), (0.26, 0.06, 0.03))


def stool(b: Builder, rng: Rng) -> None:
    radius, seat = rng.uniform(0.15, 0.21), rng.uniform(0.42, 0.75)
    if rng.random() < 0.6:
        b.rod(SEAT, int(rng.choice([SURFACE, SOFT])), (0, 0, seat - 0.03), (0, 0, seat + 0.02), radius)
    else:
        b.box(SEAT, SURFACE, (0, 0, seat), (2 * radius, 2 * radius, 0.05))
    count, spread = int(rng.integers(3, 5)), rng.uniform(0.02, 0.09)
    angles = np.arange(count) * 2 * np.pi / count + np.pi / 4
    for a in angles:
        c, s = np.cos(a), np.sin(a)
        b.rod(LEG, FRAME, (c * (radius + spread), s * (radius + spread), 0), (c * radius * 0.8, s * radius * 0.8, seat - 0.02), 0.016)
    if seat > 0.55:
        r = (radius + spread) * 0.85
        for a0, a1 in zip(angles, np.roll(angles, -1), strict=True):
            b.rod(RUNG, FRAME, (r * np.cos(a0), r * np.sin(a0), 0.2), (r * np.cos(a1), r * np.sin(a1), 0.2), 0.01)


def bench(b: Builder, rng: Rng) -> None:
    x, y, seat = rng.uniform(0.16, 0.22), rng.uniform(0.5, 0.8), rng.uniform(0.4, 0.48)
    b.box(SEAT, SURFACE, (0, 0, seat), (2 * x, 2 * y, rng.uniform(0.04, 0.08)))
    for s in (-1, 1):
        b.box(LEG, FRAME, (0, s * (y - 0.12), seat / 2 - 0.015), (2 * x - 0.04, rng.uniform(0.03, 0.07), seat - 0.03))
    b.box(RUNG, FRAME, (0, 0, seat * 0.4), (0.05, 2 * y - 0.3, 0.05))


def table(b: Builder, rng: Rng) -> None:
    x, y, top = rng.uniform(0.35, 0.5), rng.uniform(0.45, 0.85), rng.uniform(0.68, 0.78)
    b.box(TOP, SURFACE, (0, 0, top), (2 * x, 2 * y, rng.uniform(0.025, 0.06)))
    _legs(b, rng, x - 0.03, y - 0.03, top - 0.01)
    if rng.random() < 0.6:
        for s in (-1, 1):
            b.box(SIDE, FRAME, (s * (x - 0.07), 0, top - 0.06), (0.02, 2 * y - 0.16, 0.08))
            b.box(SIDE, FRAME, (0, s * (y - 0.07), top - 0.06), (2 * x - 0.16, 0.02, 0.08))


def round_table(b: Builder, rng: Rng) -> None:
    radius, top = rng.uniform(0.35, 0.6), rng.uniform(0.5, 0.78)
    b.rod(TOP, SURFACE, (0, 0, top - 0.02), (0, 0, top + 0.015), radius)
    if rng.random() < 0.6:
        b.rod(POLE, FRAME, (0, 0, 0.02), (0, 0, top), rng.uniform(0.035, 0.06))
        b.rod(BASE, FRAME, (0, 0, 0), (0, 0, 0.03), radius * rng.uniform(0.5, 0.7), radius * 0.4)
    else:
        for a in np.arange(3) * 2 * np.pi / 3:
            way = radius * np.array([np.cos(a), np.sin(a), 0])
            b.rod(LEG, FRAME, 0.85 * way, 0.4 * way + (0, 0, top), 0.025)


def desk(b: Builder, rng: Rng) -> None:
    x, y, top = rng.uniform(0.28, 0.4), rng.uniform(0.5, 0.8), rng.uniform(0.7, 0.76)
    b.box(TOP, SURFACE, (0, 0, top), (2 * x, 2 * y, 0.035))
    wide, side = rng.uniform(0.3, 0.42), rng.choice([-1, 1])
    b.box(BODY, SURFACE, (0, side * (y - wide / 2), top / 2), (2 * x - 0.06, wide, top - 0.04))
    count = int(rng.integers(2, 5))
    for k in range(count):
        z = 0.05 + (k + 0.5) * (top - 0.1) / count
        b.box(FRONT, FRAME, (x - 0.025, side * (y - wide / 2), z), (0.02, wide - 0.03, (top - 0.1) / count - 0.02))
        b.box(HANDLE, DARK, (x - 0.01, side * (y - wide / 2), z), (0.02, 0.1, 0.015))
    b.box(SIDE, FRAME, (0, -side * (y - 0.02), top / 2), (2 * x - 0.06, 0.035, top - 0.03))
    b.box(BACK, SURFACE, (-x + 0.04, 0, top * 0.65), (0.02, 2 * y - 0.1, top * 0.5))


def _upholstered(b: Builder, rng: Rng, half: float, seats: int) -> None:
    x, seat, top = rng.uniform(0.36, 0.45), rng.uniform(0.36, 0.44), rng.uniform(0.7, 0.95)
    arm, thick, height = rng.uniform(0.1, 0.2), rng.uniform(0.14, 0.2), rng.uniform(0.52, 0.66)
    b.box(BODY, SOFT, (0, 0, seat / 2 + 0.02), (2 * x, 2 * half, seat - 0.12))
    b.box(BACK, SOFT, (-x + thick / 2, 0, top / 2 + 0.05), (thick, 2 * half, top - 0.1), pitch=rng.uniform(0, 0.1))
    for s in (-1, 1):
        b.box(ARM, SOFT, (0, s * (half - arm / 2), height / 2 + 0.03), (2 * x, arm, height - 0.06))
        for f in (-1, 1):
            b.rod(LEG, FRAME, (f * (x - 0.06), s * (half - 0.06), 0), (f * (x - 0.06), s * (half - 0.06), 0.09), 0.025)
    room = (2 * half - 2 * arm) / seats
    for k in range(seats):
        y = -half + arm + (k + 0.5) * room
        b.box(SEAT, SOFT, (thick / 2 + 0.02, y, seat), (2 * x - thick, room - 0.015, 0.13))
        b.box(BACK, SOFT, (-x + thick + 0.06, y, seat + 0.06 + (top - seat) / 2), (0.13, room - 0.03, top - seat - 0.04), pitch=0.2)


def sofa(b: Builder, rng: Rng) -> None:
    _upholstered(b, rng, rng.uniform(0.75, 1.05), int(rng.integers(2, 4)))


def armchair(b: Builder, rng: Rng) -> None:
    _upholstered(b, rng, rng.uniform(0.38, 0.47), 1)


def bookcase(b: Builder, rng: Rng) -> None:
    x, y, top = rng.uniform(0.13, 0.19), rng.uniform(0.3, 0.55), rng.uniform(1.1, 2.0)
    for s in (-1, 1):
        b.box(SIDE, SURFACE, (0, s * y, top / 2), (2 * x, 0.025, top))
    b.box(BACK, SURFACE, (-x + 0.005, 0, top / 2), (0.01, 2 * y, top))
    levels = np.linspace(0.06, top - 0.012, int(rng.integers(4, 7)))
    for z in levels:
        b.box(SHELF, SURFACE, (0, 0, z), (2 * x, 2 * y, 0.025))
    for low, high in zip(levels[:-1], levels[1:], strict=True):
        left = -y + 0.03
        while left < y - 0.15 and rng.random() < 0.85:
            width = min(rng.uniform(0.08, 0.28), y - 0.03 - left)
            tall = (high - low) * rng.uniform(0.5, 0.85)
            middle = (-0.02, left + width / 2, low + 0.0125 + tall / 2)
            b.box(BODY, int(rng.choice([FRAME, SOFT, DARK, GREEN])), middle, (2 * x - 0.07, width, tall))
            left += width + rng.choice([0.004, rng.uniform(0.02, 0.12)])


def _fronts(b: Builder, rng: Rng, x: float, y: float, low: float, high: float, columns: int, rows: int) -> None:
    """Door or drawer fronts with handles on the +x face."""
    for i in range(columns):
        for k in range(rows):
            cy = -y + (i + 0.5) * 2 * y / columns
            cz = low + (k + 0.5) * (high - low) / rows
            b.box(FRONT, FRAME, (x, cy, cz), (0.02, 2 * y / columns - 0.015, (high - low) / rows - 0.015))
            if rows > 1:
                b.box(HANDLE, DARK, (x + 0.02, cy, cz), (0.02, 0.12, 0.015))
            else:
                b.box(HANDLE, DARK, (x + 0.02, cy + (0.5 - i % 2) * (2 * y / columns - 0.1), cz), (0.02, 0.015, 0.14))


def cabinet(b: Builder, rng: Rng) -> None:
    x, y, top = rng.uniform(0.18, 0.3), rng.uniform(0.3, 0.6), rng.uniform(0.9, 1.9)
    b.box(BODY, SURFACE, (0, 0, top / 2 + 0.03), (2 * x, 2 * y, top - 0.06))
    b.box(TOP, SURFACE, (0.01, 0, top), (2 * x + 0.04, 2 * y + 0.03, 0.025))
    b.box(BASE, DARK, (-0.02, 0, 0.03), (2 * x - 0.06, 2 * y - 0.04, 0.06))
    _fronts(b, rng, x + 0.01, y, 0.07, top - 0.03, 2 if y > 0.35 else 1, 1)


def drawer_unit(b: Builder, rng: Rng) -> None:
    x, y, top = rng.uniform(0.2, 0.26), rng.uniform(0.22, 0.5), rng.uniform(0.5, 0.95)
    b.box(BODY, SURFACE, (0, 0, top / 2 + 0.04), (2 * x, 2 * y, top - 0.08))
    for sx in (-1, 1):
        for sy in (-1, 1):
            b.rod(LEG, FRAME, (sx * (x - 0.04), sy * (y - 0.04), 0), (sx * (x - 0.04), sy * (y - 0.04), 0.09), 0.02)
    _fronts(b, rng, x + 0.01, y, 0.1, top - 0.02, 1 if y < 0.38 else 2, int(rng.integers(3, 6)))


def bed(b: Builder, rng: Rng) -> None:
    x, y, top = rng.uniform(0.95, 1.05), rng.uniform(0.45, 0.8), rng.uniform(0.42, 0.58)
    b.box(BODY, FRAME, (0, 0, top * 0.45), (2 * x, 2 * y, top * 0.35))
    b.box(MATTRESS, SOFT, (0.02, 0, top * 0.75), (2 * x - 0.08, 2 * y - 0.05, top * 0.4))
    b.box(BACK, FRAME, (-x, 0, top * 0.5 + 0.22), (0.05, 2 * y, top + 0.4))
    if rng.random() < 0.5:
        b.box(FRONT, FRAME, (x, 0, top * 0.5), (0.04, 2 * y, top))
    _legs(b, rng, x - 0.02, y - 0.02, top * 0.3)
    count = 1 if y < 0.6 else 2
    for k in range(count):
        b.ellipsoid(PILLOW, SURFACE, (-x + 0.28, (k - (count - 1) / 2) * y, top * 0.95 + 0.04), (0.18, min(0.34, y * 0.85 / count), 0.08))


def lamp(b: Builder, rng: Rng) -> None:
    top, radius = rng.uniform(1.35, 1.8), rng.uniform(0.15, 0.24)
    if rng.random() < 0.6:
        b.rod(BASE, FRAME, (0, 0, 0), (0, 0, 0.035), rng.uniform(0.12, 0.17), 0.1)
    else:
        for a in np.arange(3) * 2 * np.pi / 3:
            b.rod(LEG, FRAME, (0.26 * np.cos(a), 0.26 * np.sin(a), 0), (0, 0, top * 0.7), 0.016)
    b.rod(POLE, FRAME, (0, 0, 0), (0, 0, top - 0.1), 0.018)
    height = rng.uniform(0.22, 0.36)
    b.rod(SHADE, SOFT, (0, 0, top - height), (0, 0, top), radius, radius * rng.uniform(0.45, 0.95))


def bin_(b: Builder, rng: Rng) -> None:
    radius, top = rng.uniform(0.14, 0.21), rng.uniform(0.35, 0.65)
    b.rod(BODY, SURFACE, (0, 0, 0), (0, 0, top), radius * rng.uniform(0.7, 0.95), radius)
    if rng.random() < 0.5:
        b.ellipsoid(TOP, DARK, (0, 0, top), (radius, radius, radius * 0.5))
    else:
        b.rod(TOP, DARK, (0, 0, top), (0, 0, top + 0.03), radius * 1.06)


def plant(b: Builder, rng: Rng) -> None:
    pot, radius, top = rng.uniform(0.25, 0.4), rng.uniform(0.13, 0.2), rng.uniform(0.8, 1.4)
    b.rod(POT, SURFACE, (0, 0, 0), (0, 0, pot), radius * 0.7, radius)
    b.rod(POLE, FRAME, (0, 0, pot), (0, 0, top * 0.75), 0.015)
    for _ in range(int(rng.integers(12, 22))):
        azimuth, rise, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 1.2), rng.uniform(0.14, 0.24)
        way = np.array([np.cos(azimuth) * np.cos(rise), np.sin(azimuth) * np.cos(rise), np.sin(rise)])
        root = np.array([0, 0, rng.uniform(pot + 0.08, top - 0.15)])
        side = np.cross(way, [0, 0, 1])
        side /= np.linalg.norm(side)
        frame = np.stack([way, side, np.cross(way, side)], axis=1).astype(np.float32)
        b.ellipsoid(LEAF, GREEN, root + way * length, (length, length * rng.uniform(0.25, 0.5), 0.012), frame)


def box_pile(b: Builder, rng: Rng) -> None:
    level, half = 0.0, np.array([rng.uniform(0.2, 0.3), rng.uniform(0.22, 0.36)])
    for k in range(int(rng.integers(2, 4))):
        height, yaw = rng.uniform(0.2, 0.36), rng.normal(0, 0.15)
        b.box(BODY, (SURFACE, FRAME, SURFACE)[k], (*rng.normal(0, 0.02, 2), level + height / 2), (*(2 * half), height), yaw=yaw)
        level += height
        half = half * rng.uniform(0.7, 0.95)


def monitor(b: Builder, rng: Rng) -> None:
    """A television on its low board."""
    y, low, width = rng.uniform(0.55, 0.8), rng.uniform(0.35, 0.5), rng.uniform(0.75, 1.2)
    b.box(BODY, SURFACE, (0, 0, low / 2 + 0.03), (0.36, 2 * y, low - 0.06))
    b.box(BASE, DARK, (0, 0, 0.03), (0.3, 2 * y - 0.1, 0.06))
    _fronts(b, rng, 0.18, y, 0.07, low - 0.02, 2, 1)
    height = width * 0.58
    b.box(BASE, DARK, (0, 0, low + 0.01), (0.2, 0.35, 0.02))
    b.box(POLE, DARK, (-0.02, 0, low + 0.07), (0.03, 0.08, 0.14))
    b.box(SCREEN, DARK, (0, 0, low + 0.12 + height / 2), (0.04, width, height))


def ladder(b: Builder, rng: Rng) -> None:
    top, y, x = rng.uniform(1.1, 1.7), rng.uniform(0.2, 0.27), rng.uniform(0.3, 0.42)
    for s in (-1, 1):
        b.bar(LEG, FRAME, (x, s * y, 0), (0, s * y * 0.8, top), 0.06, 0.025)
        b.bar(LEG, FRAME, (-x, s * y, 0), (0, s * y * 0.8, top), 0.05, 0.025)
    for z in np.arange(0.25, top - 0.05, 0.26):
        b.box(RUNG, SURFACE, (x * (1 - z / top), 0, z), (0.09, 2 * y * (1 - 0.2 * z / top), 0.03))
    b.box(TOP, SURFACE, (0, 0, top), (0.2, 1.8 * y, 0.03))


def toilet(b: Builder, rng: Rng) -> None:
    x, seat = rng.uniform(0.2, 0.25), rng.uniform(0.38, 0.43)
    b.rod(BASE, SURFACE, (0, 0, 0), (0, 0, seat - 0.05), 0.13, 0.17)
    b.ellipsoid(BODY, SURFACE, (0.04, 0, seat - 0.08), (x + 0.04, 0.19, 0.12))
    b.rod(SEAT, SURFACE, (0.04, 0, seat), (0.04, 0, seat + 0.03), 0.19)
    b.box(BACK, SURFACE, (-x - 0.04, 0, seat + 0.17), (0.18, 0.4, 0.4))
    b.box(TOP, SURFACE, (-x - 0.04, 0, seat + 0.38), (0.2, 0.42, 0.03))


def bag(b: Builder, rng: Rng) -> None:
    """A trolley case."""
    x, y, top = rng.uniform(0.11, 0.15), rng.uniform(0.18, 0.26), rng.uniform(0.45, 0.7)
    b.box(BODY, SOFT, (0, 0, top / 2 + 0.05), (2 * x, 2 * y, top))
    b.box(FRONT, SURFACE, (x + 0.01, 0, top * 0.45), (0.04, 2 * y - 0.08, top * 0.6))
    for s in (-1, 1):
        b.ellipsoid(BASE, DARK, (-x * 0.6, s * (y - 0.05), 0.035), (0.035, 0.03, 0.035))
        b.rod(HANDLE, DARK, (-x * 0.7, s * 0.09, top), (-x * 0.7, s * 0.09, top + 0.35), 0.011)
    b.box(HANDLE, DARK, (-x * 0.7, 0, top + 0.36), (0.03, 0.22, 0.03))
