"""The two errors that users see. Both print as one line; neither shows a traceback."""

from __future__ import annotations

import warnings


class GeosegError(RuntimeError):
    """Something failed although the input was right (exit code 1)."""


class InputError(ValueError):
    """The input is wrong (exit code 2). The message names the file or topic, the field, and what was expected."""


def warn(line: str) -> None:
    """Warn in one line about an input that is used in spite of a defect; commands print the line, the node logs it."""
    warnings.warn(line, UserWarning, stacklevel=3)
