"""Semantic segmentation without labels: rooms with a class per point, scores by matching, and the table of methods."""
