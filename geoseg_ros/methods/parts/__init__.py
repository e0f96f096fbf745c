"""3D-SC: the same part on another instance (see docs/methods/parts.md)."""
