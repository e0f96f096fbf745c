"""Measurements of this package: run from the root of the checkout, never installed."""
