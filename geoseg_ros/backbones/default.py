"""The default image backbone."""

DEFAULT = "geoseg_tiny"
SMALL = "geoseg_tiny"  # for machines on which the default one is too slow
FASTER = 3  # ratio of the processor times of DEFAULT and SMALL, see docs/geoseg_base.md


def about(name: str) -> str:
    """One line for the user about the choice of a backbone by this name."""
    return f"backbone {name}; --backbone {SMALL} is about {FASTER} times faster" if name == DEFAULT != SMALL else f"backbone {name}"
