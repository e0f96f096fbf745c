"""How well places are found again on other instances."""
