"""Frozen image networks behind one interface."""
