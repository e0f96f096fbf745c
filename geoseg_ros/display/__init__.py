"""Pictures of what was found: drawn here without a display, or streamed to a rerun viewer."""
