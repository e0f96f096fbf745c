"""Cameras, drawing, and carrying what a backbone sees back to points."""
