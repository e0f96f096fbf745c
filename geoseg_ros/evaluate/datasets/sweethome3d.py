"""Furniture of the Debian package ``sweethome3d-furniture``: artist-made meshes with their real sizes.

Only the catalogues whose licences let their pictures be shown freely are read: BlendSwap-CC-0 (CC0) and KatorLegaz (CC BY 3.0, by Andrew
Kator and Jennifer Legaz). A catalogue is a ZIP file with ``PluginFurnitureCatalog.properties``, whose lines are ``key#number=value``, and a
folder for each model.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from geoseg_ros.errors import InputError
from geoseg_ros.simulation.meshes import TexturedMesh, read_mesh_of_size

CATALOGUES = ("BlendSwap-CC-0", "KatorLegaz")
FOLDER = Path("usr", "share", "sweethome3d", "furniture")  # in the unpacked package
_PROPERTIES = "PluginFurnitureCatalog.properties"
_BYTES = 256 << 20  # most that is unpacked of one model
_NEEDED = {".obj", ".mtl", ".jpg", ".jpeg", ".png"}


@dataclass(frozen=True)
class Model:
    """One piece of a catalogue.

    Attributes:
        catalogue: the ZIP file.
        name: of the piece in its catalogue.
        category: as the catalogue has it, e.g. "Living room".
        path: of the OBJ file inside the ZIP file.
        size: depth, width, height: metres along x (front), y and z (up).
    """

    catalogue: Path
    name: str
    category: str
    path: str
    size: tuple[float, float, float]


def list_models(root: Path) -> dict[str, Model]:
    """All models of both catalogues by name, but for those that stand turned in their files. Of two of one name the first counts.

    Args:
        root: the unpacked package, or the folder that holds the ``.sh3f`` files.

    Raises:
        InputError: a catalogue is absent or damaged.
    """
    folder = root / FOLDER if (root / FOLDER).is_dir() else root
    models: dict[str, Model] = {}
    for name in CATALOGUES:
        path = folder / f"{name}.sh3f"
        if not path.is_file():
            raise InputError(f"{path}: no such file, expected the unpacked Debian package sweethome3d-furniture")
        try:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(_PROPERTIES).decode("latin-1")
        except (zipfile.BadZipFile, KeyError, OSError):
            raise InputError(f"{path}: not a furniture catalogue, expected a ZIP file with {_PROPERTIES}") from None
        for entry in _entries(text):
            if "modelRotation" not in entry:
                model = _model(path, entry)
                models.setdefault(model.name, model)
    return models


def _entries(text: str) -> list[Mapping[str, str]]:
    entries: dict[int, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d{1,6})=(.*?)\s*$", text, re.MULTILINE):
        entries.setdefault(int(number), {})[key] = value
    return [entries[number] for number in sorted(entries)]


def _model(catalogue: Path, entry: Mapping[str, str]) -> Model:
    try:
        depth, width, height = (float(entry[key]) / 100 for key in ("depth", "width", "height"))  # written in centimetres
        return Model(catalogue, entry["id"].rpartition("#")[2], entry["category"], entry["model"].lstrip("/"), (depth, width, height))
    except (KeyError, ValueError) as error:
        raise InputError(f"{catalogue}: {entry.get('id', 'a model')}: no usable {error}") from None


def read_model(model: Model) -> TexturedMesh:
    """The mesh of a model in its real size. Raises InputError where its files are absent or damaged."""
    folder = str(PurePosixPath(model.path).parent) + "/"
    with tempfile.TemporaryDirectory() as place:
        try:
            with zipfile.ZipFile(model.catalogue) as archive:
                parts = [i for i in archive.infolist() if i.filename.startswith(folder) and Path(i.filename).suffix.lower() in _NEEDED]
                if sum(part.file_size for part in parts) > _BYTES:
                    raise InputError(f"{model.catalogue}: {model.name}: more than {_BYTES >> 20} MB")
                for part in parts:
                    (Path(place) / PurePosixPath(part.filename).name).write_bytes(archive.read(part))
        except (zipfile.BadZipFile, zlib.error, OSError):
            raise InputError(f"{model.catalogue}: {model.name}: damaged") from None
        try:
            return read_mesh_of_size(Path(place) / PurePosixPath(model.path).name, model.size)
        except InputError as error:
            raise InputError(f"{model.catalogue}: {model.name}: {str(error).partition(': ')[2]}") from None
