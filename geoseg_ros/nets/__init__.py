"""Network blocks that two or more methods use."""
