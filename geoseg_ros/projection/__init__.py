"""Cameras, rendering of views, and lifting of tokens from views to points."""
