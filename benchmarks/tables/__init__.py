"""Tables that serve the development of the package: its own compositions, published figures, pictures of the best and the worst items."""
