"""Public data sets in the format in which they are given out: arrays in, no method. Each has a licence of its own."""
