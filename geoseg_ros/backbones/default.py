"""Which image backbone is taken where none is named. It is chosen here and nowhere else, and commands say so when they start."""

DEFAULT = "geoseg_tiny"
SMALL = "geoseg_tiny"  # for machines that cannot afford the default one
FASTER = 3  # times that SMALL needs less processor time than DEFAULT, see docs/geoseg_base.md


def about(name: str) -> str:
    """One line for the user about the choice of a backbone by this name."""
    return f"backbone {name}; --backbone {SMALL} is about {FASTER} times faster" if name == DEFAULT != SMALL else f"backbone {name}"
