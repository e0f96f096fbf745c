"""Find the parts of a part pack in clouds and images.

Written to the folder --out: for each file NAME.json, a list with one list of parts for each object; a part has name; point [x, y, z] in
metres in the frame of the file (images: pixel [x, y]); normal; confidence 0 .. 1 (not a probability); seen (false: on the hidden side,
inferred); symmetric (one of several equal places); object and instance, the name of the concept and the number of the object in the file.
Where no point is given point is null, seen false, and reason says which check failed. NAME.png shows them; and summary.json. NAME is the
file's name without its suffix, or with it where several files differ in the suffix only.

A part pack of a concept needs that concept's pack: --pack, or a file of the name it had beside the part pack. One that was made with
--whole takes every file for one object, and so does any with --whole here.

example:
  geoseg where --parts mug_parts.pack --pack mug.pack --clouds scans/ --out where/
  geoseg where --parts mug_parts.pack --whole --clouds mugs/ --out where/
  geoseg where --parts can_parts.pack --images photos/ --out where/
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.cli.outputs import ResultFolder
from geoseg_ros.cli.parts import read_up
from geoseg_ros.errors import InputError

if TYPE_CHECKING:
    from geoseg_ros.geometry.cloud import Cloud
    from geoseg_ros.io.folders import Folder
    from geoseg_ros.methods.base import PartFinder
    from geoseg_ros.packs.pack import Pack
    from geoseg_ros.results import PartPoint
    from geoseg_ros.runtime.pipeline import Pipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--parts", required=True, metavar="PACK", help="part pack of geoseg parts")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--pack", metavar="PACK", help="concept pack whose objects have the parts (default: the one it was made with, if found)"
    )
    kind.add_argument("--whole", action="store_true", help="every file shows one object and nothing else")
    parser.add_argument("--clouds", metavar="DIR", help="PCD, PLY, NPY, NPZ, KITTI BIN")
    parser.add_argument("--images", metavar="DIR", help="JPG, PNG and other pictures")
    parser.add_argument("--up", metavar="X,Y,Z", help="what is up in clouds, for a pack made with --whole (default: as geoseg parts)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Find the parts in every file and return the summary."""
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.io.folders import load_clouds, load_images

    begin = time.monotonic()
    if not options.clouds and not options.images:
        raise InputError("expected --clouds, --images, or both")
    folders: dict[str, Folder[Any]] = {}
    if options.clouds:
        folders["clouds"] = load_clouds(options.clouds)
    if options.images:
        folders["images"] = load_images(options.images)
    inputs = [options.clouds, options.images, options.parts, options.pack]
    results = ResultFolder(options.out, inputs, folders, dict.fromkeys(folders, (".json", ".png")))
    finder = _Finder(options)
    counts = {name: {"asked": 0, "given": 0, "seen": 0} for name in finder.names}

    def write(flat: bool, _: Any, found: tuple[list[PartPoint], NDArray[np.uint8]], path: Path) -> dict[str, Any]:
        _count(counts, found[0])
        _write(path, *found, flat)
        return {"objects": len({part.instance for part in found[0]}), "parts": f"{path.name}.json"}

    entries = []
    with Stages("item", options.json) as progress:
        for kind in folders:
            entries += results.write(kind, finder.find, partial(write, kind == "images"), progress)
    summary = {"parts": counts, "items": entries, "seconds": round(time.monotonic() - begin, 1)}
    results.finish(summary)
    if not options.json:
        results.print_refused()
        given = ", ".join(f"{name} {c['given']} of {c['asked']} ({c['seen']} seen)" for name, c in counts.items())
        print(f"{len(entries) - len(results.refused)} files; a place is given for {given}")
        print(f"{options.out}: one .json and .png per file, and summary.json")
    return {"out": str(options.out), **summary}


class _Finder:
    """The part pack, with its concept pack where it has one. Attributes: names: of the parts."""

    def __init__(self, options: argparse.Namespace) -> None:
        from geoseg_ros.packs.pack import Pack
        from geoseg_ros.runtime.parts import is_part_pack

        pack = Pack.load(options.parts)
        if not is_part_pack(pack):
            raise InputError(f"--parts: {options.parts} is no part pack (made by the method {pack.method}); geoseg parts makes one")
        self._up = read_up(options.up)
        self._pack, target = pack, pack.info.get("target")
        self._whole = options.whole or target is None
        self._backbone: Any = None
        self._pipeline: Pipeline | None = None
        if self._whole and options.pack:
            raise InputError(f"--pack: {options.parts} was made with --whole and takes every file for one object; leave --pack out")
        if self._whole:
            from geoseg_ros.methods.registry import open_part_method

            self._finder: PartFinder = open_part_method(pack.method).open(pack)
        else:
            from geoseg_ros.runtime.pipeline import open_pipeline

            self._pipeline = open_pipeline([options.pack or _concept(pack), pack], device="cpu")
        self.names = list(pack.info["parts"])

    def find(self, _: Path, item: Cloud | NDArray[np.uint8]) -> tuple[list[PartPoint], NDArray[np.uint8]]:
        """The parts in a cloud or an image, and a picture of them."""
        return self.image(item) if isinstance(item, np.ndarray) else self.cloud(item)

    def cloud(self, cloud: Cloud) -> tuple[list[PartPoint], NDArray[np.uint8]]:
        """The parts in a cloud, in the frame of its file, and their picture."""
        from geoseg_ros.display.part_pictures import draw_cloud_parts
        from geoseg_ros.projection.scene import CloudScene, SceneConfig
        from geoseg_ros.runtime.parts import moved_parts, whole_object

        if self._pipeline is None:
            obj = whole_object(cloud, self._up)
            if not len(obj.xyz):
                raise InputError("no valid point")
            coloured = cloud.rgb is not None and cloud.shape is not None and bool(self._pack.tensors.get("mean") is not None)
            scene = CloudScene(cloud, self._opened(), SceneConfig()) if coloured else None
            parts, rows = self._finder.cloud([obj], scene).parts, None
        else:
            result = self._pipeline.process_cloud(cloud)
            parts, rows = result.parts, np.flatnonzero(np.isin(result.instance, [part.instance for part in result.parts]))
        picture = draw_cloud_parts(cloud, parts, rows)
        pose = cloud.pose()
        return (parts if pose is None else moved_parts(parts, pose)), picture

    def image(self, image: NDArray[np.uint8]) -> tuple[list[PartPoint], NDArray[np.uint8]]:
        """The parts in a picture, and the picture of them."""
        from geoseg_ros.display.part_pictures import draw_image_parts
        from geoseg_ros.projection.scene import ImageScene, SceneConfig

        if self._pipeline is None:
            parts = self._finder.image(ImageScene(image, self._opened(), SceneConfig()), [np.ones(image.shape[:2], bool)])
            return parts, draw_image_parts(image, parts)
        result = self._pipeline.process_image(image)
        return result.parts, draw_image_parts(image, result.parts, result.mask > 0 if result.mask.any() else None)

    def _opened(self) -> Any:
        """The backbone, opened when a picture asks for it."""
        from geoseg_ros.backbones.registry import open_backbone

        if self._backbone is None:
            self._backbone = open_backbone(self._pack.backbone)
            self._pack.check_backbone(self._backbone.name, self._backbone.hash)
        return self._backbone


def _concept(pack: Pack) -> Pack:
    """The concept pack that a part pack was made with: of the same file name beside it or here, or one that ships.

    Raises:
        InputError: it is not there, or of another version.
    """
    from geoseg_ros.packs.pack import Pack, shipped_packs

    target = pack.info["target"]
    name, version, file = (str(target.get(key, "")) for key in ("name", "version", "file"))
    places = [str(folder / file) for folder in (Path(pack.path).parent, Path()) if file and (folder / file).is_file()]
    for place in [*places, *([name] if name in shipped_packs() else [])]:
        found = Pack.load(place)
        if (found.name, found.version) == (name, version):
            return found
    raise InputError(f"--pack: {pack.path} finds parts of '{name}', name the concept pack ({file or 'version ' + version}); or --whole")


def _write(path: Path, parts: list[PartPoint], picture: NDArray[np.uint8], flat: bool) -> None:
    from geoseg_ros.files import write_text
    from geoseg_ros.io.folders import write_image

    objects: dict[int, list[dict[str, Any]]] = {}
    for part in parts:
        objects.setdefault(part.instance, []).append(_entry(part, flat))
    write_text(f"{path}.json", json.dumps(list(objects.values()), indent=1) + "\n")
    write_image(f"{path}.png", picture)


def _entry(part: PartPoint, flat: bool) -> dict[str, Any]:
    """A part as JSON."""
    place: dict[str, Any]
    if flat:
        place = {"pixel": None if part.pixel is None else [round(float(v), 1) for v in part.pixel]}
    else:
        place = {"point": None if part.point is None else [round(float(v), 4) for v in part.point]}
        place["normal"] = None if part.normal is None else [round(float(v), 4) for v in part.normal]
    entry = {
        "object": part.object or None,
        "instance": part.instance,
        "name": part.name,
        **place,
        "confidence": round(part.confidence, 3),
        "seen": part.seen,
        "symmetric": part.symmetric,
    }
    return entry | ({"reason": part.reason} if part.reason else {})


def _count(counts: dict[str, dict[str, int]], parts: list[PartPoint]) -> None:
    for part in parts:
        counts[part.name]["asked"] += 1
        counts[part.name]["given"] += part.point is not None or part.pixel is not None
        counts[part.name]["seen"] += part.seen
