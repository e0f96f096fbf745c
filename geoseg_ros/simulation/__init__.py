"""A procedural world of rooms and furniture with exact truth: deterministic by seed, generated on demand, never stored."""
