"""The contrast method: similarity with a target's tokens minus similarity with a background set, in images and in clouds."""
