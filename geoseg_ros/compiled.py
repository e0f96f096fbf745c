"""Functions compiled by numba, and kept on disk so that only the first run on a machine compiles."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable)


def compiled(function: Function) -> Function:
    """Compile ``function`` without Python objects (``nopython``) when it is first called with each combination of argument types.

    The machine code is kept beside the source, else in ``NUMBA_CACHE_DIR`` or the user's cache folder. Where none of them can be written,
    for example in a read-only installation of a user without a home, every process compiles anew. The function releases the interpreter
    lock while it runs, is not parallel itself (see :func:`in_parts`), and keeps the order of floating point operations, so its result does
    not depend on the machine's number of threads.

    Array indices are not checked: callers must have checked them.
    """
    try:
        return cast(Function, numba.njit(function, cache=True, nogil=True))
    except RuntimeError:  # numba finds no folder that it can write
        return cast(Function, numba.njit(function, nogil=True))


def kernel_folder() -> str | None:
    """The folder in which the machine code of this module's functions is kept, like that of others; None where it cannot be kept."""
    return getattr(getattr(compiled(_nothing), "_cache", None), "cache_path", None)


def _nothing() -> None: ...


def in_parts(count: int, work: Callable[[int, int], object], least: int) -> None:
    """Call ``work(start, stop)`` for consecutive parts of ``range(count)``, at the same time on as many threads as numba would use.

    For compiled functions, which release the interpreter lock, on elements that do not depend on one another: each is computed as it would
    be alone, so the result does not depend on the number of parts. Numba's own threads are not used, because its default pool ends the
    process when two threads of a program use it at once. Threads of Python start in less than 0.1 ms, and none is left when this returns:
    nothing has to be closed at exit or survive a fork.

    Args:
        count: number of elements, >= 0.
        work: writes the results of the elements ``start`` to ``stop`` - 1. What it raises is raised here, when all parts have ended.
        least: elements that are worth a thread, some tenths of a millisecond of work; with fewer than twice as many there is one part.
    """
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    parts = max(1, min(most, count // least))
    ends = [count * part // parts for part in range(parts + 1)]
    errors: list[BaseException] = []

    def run(part: int) -> None:
        try:
            work(ends[part], ends[part + 1])
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = []
    for part in range(1, parts):
        thread = threading.Thread(target=run, args=(part,), name="part", daemon=True)
        try:
            thread.start()
            threads.append(thread)
        except RuntimeError:  # no more threads, or the interpreter is about to end
            run(part)
    run(0)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
