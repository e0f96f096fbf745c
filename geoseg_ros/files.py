"""Atomic writing of files, and checks that an output does not overwrite inputs or files of others."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from geoseg_ros.errors import InputError

MARK = ".geoseg"  # a file in folders of results


def home() -> Path:
    """The user's home; where there is none (no HOME and no entry of the user, as in containers), a folder for temporary files."""
    try:
        return Path.home()
    except (RuntimeError, KeyError):
        return Path(tempfile.gettempdir()) / f"geoseg-{os.getuid()}"


def expanded(path: str) -> str:
    """``path`` with ``~`` as the user's home."""
    return str(home() / path[2:]) if path.startswith("~/") else str(home()) if path == "~" else os.path.expanduser(path)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed and renamed to ``path``, on error removed.

    The temporary name keeps the suffix of ``path``, because some writers choose the format by it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        mask = os.umask(0)  # mkstemp makes 0600 files; give the usual permissions
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, target)
    except OSError as error:
        if error.filename is None:  # a full disk does not say which file
            error.filename = str(target)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    write_bytes(path, text.encode())


def check_output(
    out: str | os.PathLike[str],
    option: str,
    inputs: Iterable[str | os.PathLike[str] | None] = (),
    ours: Callable[[Path], bool] | None = None,
    kind: str = "",
) -> None:
    """Check before the work that its output can be written and overwrites nothing else.

    Args:
        out: file or folder to be made.
        option: that names it, for errors.
        inputs: files and folders that are read; None entries are left out.
        ours: whether what exists at ``out`` may be replaced; None: anything may.
        kind: what ``out`` becomes, such as "a pack", for errors.

    Raises:
        InputError: ``out`` is, lies in or holds an input; something else would be replaced; it cannot be written.
    """
    target = Path(out)
    resolved = target.resolve()
    for given in inputs:
        if given is None:
            continue
        source = Path(given).resolve()
        source = source.parent if source.name == "metadata.yaml" else source
        if resolved == source:
            raise InputError(f"{option}: {target} is also an input, expected another place")
        if source in resolved.parents:
            raise InputError(f"{option}: {target} lies in the input {given}, expected another place")
        if resolved in source.parents and ours is not None:  # it would be replaced as a whole
            raise InputError(f"{option}: {target} holds the input {given}, expected another place")
    if ours is not None and os.path.lexists(target) and not ours(target):
        raise InputError(f"{option}: {target} exists and is not {kind}, will not replace it")
    check_writable(target, option)


def check_writable(out: Path, option: str) -> None:
    """Raise InputError unless a file or folder of this name can be made. A temporary folder is made for the check and removed."""
    parent = out.absolute().parent
    name = f".{out.stem}."  # as atomic_path names it: a name that is too long shows here
    while not os.path.exists(parent) and parent != parent.parent:
        parent, name = parent.parent, f".{parent.name}."
    if not os.path.isdir(parent):
        raise InputError(f"{option}: {out} lies below a file, expected a folder there")
    try:
        os.rmdir(tempfile.mkdtemp(prefix=name, suffix=out.suffix, dir=parent))
    except OSError as error:
        raise InputError(f"{option}: {out} cannot be written: {error.strerror or error}") from None


def check_result_names(folder: str | os.PathLike[str], names: Iterable[str], option: str, ours: bool = False) -> None:
    """Raise InputError if a result would replace a file in a folder that is not marked as one of results.

    Args:
        folder: where results will be written.
        names: file names of the results.
        option: name of the command's option, for the message.
        ours: the folder is known to hold results of this package; else see :func:`mark_results`.
    """
    root = Path(folder)
    if ours or os.path.exists(root / MARK):
        return
    taken = next((name for name in names if os.path.lexists(root / name)), None)
    if taken is not None:
        raise InputError(f"{option}: {root / taken} exists and is no result of an earlier run, will not replace it")


def mark_results(folder: str | os.PathLike[str]) -> None:
    """Make a folder and mark it as one of results, which later runs may replace."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / MARK).touch()
