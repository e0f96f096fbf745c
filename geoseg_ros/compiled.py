"""Functions compiled by numba, and kept on disk so that only the first run on a machine compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable)


def compiled(function: Function) -> Function:
    """Compile ``function`` without Python objects (``nopython``) when it is first called with each combination of argument types.

    The machine code is kept beside the source, else in ``NUMBA_CACHE_DIR`` or the user's cache folder. Where none of them can be written,
    for example in a read-only installation of a user without a home, every process compiles anew. The function releases the interpreter
    lock while it runs, is not parallel, and keeps the order of floating point operations, so its result does not depend on the machine's
    number of threads.

    Array indices are not checked: callers must have checked them.
    """
    try:
        return cast(Function, numba.njit(function, cache=True, nogil=True))
    except RuntimeError:  # numba finds no folder that it can write
        return cast(Function, numba.njit(function, nogil=True))
