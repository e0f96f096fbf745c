"""Published figures of semantic correspondence (3D-SC, table C1; per image), beside which ours are printed."""

from __future__ import annotations

COLUMNS = ("SPair-71k .01/.05/.10", "geo-aware .10", "AP-10K I.S./C.S./C.F. .10", "SPair-U .10")
ROWS = {
    "DINOv2, nearest neighbours": ("6.3 / 38.4 / 53.9", "42.0", "60.9 / 57.3 / 47.4", "54.9"),
    "DIFT": ("7.2 / 39.7 / 52.9", "42.5", "50.3 / 46.0 / 35.0", "47.4"),
    "SD + DINOv2": ("7.9 / 44.7 / 59.9", "49.3", "62.9 / 59.3 / 48.3", "59.4"),
    "Spherical maps (human poses)": ("8.4 / 48.2 / 64.4", "-", "65.4 / 63.1 / 51.0", "61.0"),
    "DIY-SC (human poses)": ("10.1 / 53.8 / 71.6", "67.5", "70.6 / 69.8 / 57.8", "67.9"),
    "DIY-SC + OrientAnything": ("9.5 / 51.2 / 69.6", "65.8", "69.3 / 66.8 / 54.0", "66.3"),
    "3D-SC": ("10.2 / 54.8 / 73.0", "70.8", "69.6 / 68.5 / 56.9", "67.3"),
}
NOTE = (
    "Published: tokens of DINOv2 or v3 at 840 pixels, most with those of Stable Diffusion; meshes of SAM3D and descriptors of PartField. "
    "Ours: the backbone named above at 480 pixels, none of these."
)


def published_markdown() -> str:
    """The table, and what differs."""
    lines = [f"| published | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in ROWS.items()]
    return "\n".join([*lines, "", NOTE])
