"""The default image backbone."""

DEFAULT = "geoseg_tiny"
