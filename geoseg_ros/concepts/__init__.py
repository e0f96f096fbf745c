"""Concept packs: what the live node needs to know of one co-segmentation set."""
