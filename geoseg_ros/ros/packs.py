"""Packs that are named while the node runs, checked before they are opened."""

from __future__ import annotations

from collections.abc import Sequence

from geoseg_ros.errors import InputError
from geoseg_ros.methods.contrast.pack import load_pack


def check_packs(packs: Sequence[str]) -> tuple[str, ...]:
    """Read the packs and return the names of their concepts.

    Raises:
        InputError: none given, one cannot be read, two have one name, or they were made with different backbones.
    """
    loaded = [load_pack(pack) for pack in packs]
    if not loaded:
        raise InputError("expected at least one concept pack")
    names = tuple(pack.name for pack in loaded)
    if len(set(names)) < len(names):
        raise InputError(f"names must differ, got {', '.join(names)}")
    for pack in loaded[1:]:
        pack.check_backbone(loaded[0].backbone, loaded[0].backbone_hash)
    return names
