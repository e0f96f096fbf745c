"""Loops and stages that train the learned networks; checkpoints; controls."""
