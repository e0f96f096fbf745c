"""Outputs of commands: checks before the work, pictures beside packs, and folders with results for every file of other folders."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.files import atomic_path, check_output, check_result_names, mark_results, write_text

if TYPE_CHECKING:
    from geoseg_ros.geometry.cloud import Cloud
    from geoseg_ros.io.folders import Folder

UNFINISHED = ".unfinished"  # folder, or end of its name, with the intermediate results of a command
_PICTURE = "geoseg pack"  # in pictures beside packs, so that no picture of the user is replaced


@contextmanager
def keep_on_interrupt(folder: Path, quiet: bool) -> Iterator[None]:
    """Keep the intermediate results in ``folder`` on Ctrl-C and print a line about them; remove them on bad input."""
    new = not folder.parent.exists()
    try:
        yield
    except InputError:
        shutil.rmtree(folder.parent if new else folder, ignore_errors=True)
        raise
    except KeyboardInterrupt:
        if folder.is_dir() and not quiet:
            print(f"{folder}: intermediate results; the same command resumes from there", file=sys.stderr)
        raise


def check_pack_file(path: Path, option: str, inputs: Iterable[str | None] = (), bank: bool = False) -> None:
    """Raise InputError if ``path`` cannot be written as a pack (or a bank), or would replace another file.

    Args:
        path: of the output.
        option: name of the command's option, for the message.
        inputs: paths that must not be overwritten.
        bank: the output is a background bank.
    """
    from geoseg_ros.packs.pack import is_bank, is_pack

    if os.path.isdir(path):  # Path.is_dir raises where a name is too long
        raise InputError(f"{option}: {path} is a folder, expected a file name such as {path / 'mug.pack'}")
    check_output(path, option, inputs, is_bank if bank else is_pack, "a background bank" if bank else "a pack")


def check_picture(path: Path, inputs: Iterable[str | None] = ()) -> None:
    """Raise InputError if the picture beside a pack cannot be written, or would replace one of the user's."""
    check_output(path, "--out", inputs, _is_own_picture, "a picture of a pack")


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write the picture beside a pack, RGB [H, W, 3] as PNG; :func:`check_picture` knows it again."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text("Software", _PICTURE)
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, pnginfo=mark)


def _is_own_picture(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return bool(picture.info.get("Software") == _PICTURE)
    except (OSError, ValueError):
        return False


def result_names(paths: Sequence[Path]) -> dict[Path, str]:
    """The name of each file's results: its stem, or its whole name where another file's results would have the same one."""
    names = {path: path.stem for path in paths}
    while True:
        taken: dict[str, list[Path]] = {}
        for path, name in names.items():
            taken.setdefault(name.casefold(), []).append(path)  # some file systems ignore case
        clashing = [path for group in taken.values() if len(group) > 1 for path in group if names[path] != path.name]
        if not clashing:
            return names
        names |= {path: path.name for path in clashing}


def write_labelled_cloud(path: Path, cloud: Cloud, label: NDArray[np.uint32], rgb: NDArray[np.uint8]) -> dict[str, str]:
    """Write the labels [N] as ``path`` + .npy and the cloud in the colours ``rgb`` [N, 3] as .ply; returns their names for the summary."""
    from geoseg_ros.io.cloud_files import write_ply

    with atomic_path(f"{path}.npy") as temporary:
        np.save(temporary, label)
    write_ply(f"{path}.ply", replace(cloud, rgb=rgb))
    return {"labels": f"{path.name}.npy", "coloured": f"{path.name}.ply"}


class ResultFolder:
    """A folder with results for every file of folders of clouds and images, and a summary.json.

    Args:
        out: the folder to be made.
        inputs: files and folders that are read.
        folders: of the files, by kind.
        ends: of the names of a file's results, by kind, such as ``(".npy", ".ply")``.

    Attributes:
        refused: a line for each file that got no result.

    Raises:
        InputError: results would lie in an input, or replace files that are no results.
    """

    def __init__(self, out: str, inputs: Sequence[str | None], folders: dict[str, Folder[Any]], ends: dict[str, tuple[str, ...]]) -> None:
        self.refused: list[str] = []
        self._written = 0
        self._out, self._folders = Path(out), folders
        if os.path.isfile(out):
            raise InputError(f"--out: {out} is a file, expected a folder")
        check_output(out, "--out", inputs)
        every = [end for kind in folders for end in ends[kind]]
        groups = [tuple(folders)] if len(set(every)) < len(every) else [(kind,) for kind in folders]  # of kinds whose names could clash
        self._names: dict[Path, str] = {}
        for group in groups:
            self._names |= result_names([path for kind in group for path in folders[kind].paths])
        files = [self._names[path] + end for kind, folder in folders.items() for path in folder.paths for end in ends[kind]]
        # also others that a later run, for which the folder is one of results, would replace
        there = [path.name for path in sorted(self._out.glob("*")) if path.name.endswith(tuple(every))]
        check_result_names(out, ["summary.json", *files, *there], "--out")

    def write(
        self,
        kind: str,
        process: Callable[[Path, Any], Any],
        write: Callable[[Any, Any, Path], dict[str, Any]],
        progress: Callable[[str, int, int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Process the files of a kind and write their results.

        Args:
            kind: of the files.
            process: called with a file's path and contents; returns its result, or None where it has none; InputError refuses the file.
            write: called with contents, result and the path for its files without the ends; returns what the summary says about it.
            progress: called with kind, number and count of files.

        Returns:
            Entries for the summary, those of refused files last.
        """
        folder, refused = self._folders[kind], {}
        entries: list[dict[str, Any]] = []
        for number, (path, item) in enumerate(folder, 1):
            try:
                result = process(path, item)
            except InputError as error:
                refused[path] = f"{path}: {error}"
                continue
            if result is not None:
                mark_results(self._out)
                self._written += 1
                entries.append({"file": path.name, **write(item, result, self._out / self._names[path])})
            if progress is not None:
                progress(kind, number, len(folder))
        refused |= folder.skipped
        self.refused += refused.values()
        return entries + [{"file": path.name, "error": line} for path, line in refused.items()]

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary.

        Raises:
            InputError: no file was processed.
        """
        if not self._written:
            raise InputError(f"no file can be used; first: {self.refused[0]}")
        write_text(self._out / "summary.json", json.dumps(summary, indent=1) + "\n")

    def print_refused(self) -> None:
        """Print a line for each refused file on standard error."""
        for line in self.refused:
            print(f"skipped {line}", file=sys.stderr)
