"""The networks as engines: exported once, run by whichever backend is there."""
