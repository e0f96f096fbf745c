"""One folder per method over the shared rooms."""
