"""What an accelerator does with this package; see check.py."""
