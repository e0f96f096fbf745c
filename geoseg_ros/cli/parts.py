"""Make a part pack: a part that is marked once, on one photograph or cloud, is found on other objects of its kind. No labels, no models.

Each --mark names a part and says where it is: NAME=x,y,z@FILE in metres in a cloud (PCD, PLY, NPY, NPZ, BIN) or a mesh (OBJ, GLB), or
NAME=x,y@FILE in pixels of a photograph. The object of the first mark in a cloud is the template that others are compared with; clouds of
the whole object serve better than those of one side. Parts marked in clouds are found in clouds (colour is not needed), parts marked on
photographs in images, and in coloured, organised clouds.

With --pack the objects are the objects of a concept pack, and the live node finds their parts where both packs are loaded. With --whole
every cloud or photograph shows one object and nothing else; then geoseg where uses the pack.

Beside --out, a picture of the same name (.png) shows the template with its parts, and the parts found on every object of --clouds,
--recording (its clouds) and --meshes, on which the pack can be tried at once.

example:
  geoseg parts --pack mug.pack --mark handle=0.31,-0.12,0.74@scan.pcd --clouds scans/ --out mug_parts.pack
  geoseg parts --whole --mark handle=412,233@photo.jpg --mark spout=120,180@photo.jpg --out can_parts.pack
  geoseg parts --whole --mark seat=0,0,0.45@stool.ply --meshes stools/ --out stool_parts.pack
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.cli.backbone_options import add_backbone, add_backend
from geoseg_ros.cli.outputs import check_pack_file, check_picture, write_picture
from geoseg_ros.errors import InputError

if TYPE_CHECKING:
    from geoseg_ros.geometry.cloud import Cloud
    from geoseg_ros.methods.base import PartFinder
    from geoseg_ros.runtime.part_learning import PartLearner

_CELL = (480, 400)
_MOST_TRIED = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--pack", metavar="PACK", help="concept pack whose objects have the parts")
    kind.add_argument("--whole", action="store_true", help="every cloud or photograph shows one object and nothing else")
    parser.add_argument("--mark", action="append", default=[], required=True, metavar="NAME=PLACE@FILE", help="a part; see above")
    parser.add_argument("--clouds", nargs="+", action="extend", default=[], metavar="DIR", help="clouds to try the pack on")
    parser.add_argument("--recording", nargs="+", action="extend", default=[], metavar="BAG", help="recordings whose clouds it is tried on")
    parser.add_argument(
        "--meshes", nargs="+", action="extend", default=[], metavar="DIR", help="folders of OBJ, GLB and PLY meshes, likewise"
    )
    parser.add_argument("--up", metavar="X,Y,Z", help="what is up in clouds, with --whole (default: +z; of a camera's cloud, found)")
    parser.add_argument("--name", help="name of the pack (default: of the file --out)")
    parser.add_argument("--out", required=True, metavar="FILE", help="part pack to write")
    add_backbone(parser)
    add_backend(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Make the pack, try it, write it and the picture, and return the summary."""
    from geoseg_ros.cli.backbone_options import open_image_backbone
    from geoseg_ros.display.pictures import contact_sheet
    from geoseg_ros.methods.base import Context
    from geoseg_ros.methods.registry import open_part_method
    from geoseg_ros.packs.pack import Pack, check_name
    from geoseg_ros.runtime.part_learning import PartLearner

    begin = time.monotonic()
    out = Path(options.out)
    marks = read_marks(options.mark)
    inputs = [*options.clouds, *options.recording, *options.meshes, *(str(item) for _, item in marks.values())]
    check_pack_file(out, "--out", inputs)
    name = options.name or out.stem
    check_name(name, "--name")
    sheet = out.with_name(f"{out.stem}.png")
    if sheet == out:
        raise InputError(f"--out: {out} is the name of the picture beside the pack, expected another name")
    check_picture(sheet, inputs)
    target = None if options.pack is None else Pack.load(options.pack)
    if target is not None:
        options.backbone = target.backbone
    learner = PartLearner(Context(open_image_backbone(options)), target, read_up(options.up))
    pack = learner.learn(name, marks)
    if target is not None:  # so that geoseg where finds it beside the part pack
        pack = replace(pack, info={**pack.info, "target": {**pack.info["target"], "file": Path(options.pack).name}})
    finder = open_part_method(pack.method).open(pack)
    cells, tried, skipped = _try(options, learner, finder, marks)
    if cells:
        pack = replace(pack, tensors={**pack.tensors, "picture.0": _encoded(cells[0])})
    version = pack.save(out)
    if cells:
        write_picture(sheet, contact_sheet(cells, min(4, len(cells))))
    summary: dict[str, Any] = {
        "out": str(out),
        "name": name,
        "target": None if target is None else {"name": target.name, "version": target.version},
        "parts": list(finder.names),
        "version": version,
        "bytes": out.stat().st_size,
        "picture": str(sheet) if cells else None,
        "tried": tried,
        "skipped": skipped,
        "seconds": round(time.monotonic() - begin, 1),
    }
    if not options.json:
        _print(summary)
    return summary


def _print(summary: dict[str, Any]) -> None:
    for line in summary["skipped"]:
        print(f"skipped {line}", file=sys.stderr)
    parts, target, tried = summary["parts"], summary["target"], summary["tried"]
    of = "whole objects" if target is None else f"objects of '{target['name']}'"
    print(f"{summary['out']}: {len(parts)} parts of {of} ({', '.join(parts)}), version {summary['version']}")
    if tried["objects"]:
        given = ", ".join(f"{part} {count} of {tried['objects']}" for part, count in tried["given"].items())
        print(f"tried on {tried['objects']} objects: a point is given for {given}")
    if summary["picture"]:
        print(f"{summary['picture']}: the parts on the template and on what it was tried on")


def read_marks(texts: list[str]) -> dict[str, tuple[tuple[float, ...], Path]]:
    """``NAME=x,y[,z]@FILE`` of --mark. Raises InputError where one is none, names a part twice, or names a file that is not there."""
    marks: dict[str, tuple[tuple[float, ...], Path]] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        place, at, file = rest.partition("@")
        try:
            numbers = tuple(float(number) for number in place.split(","))
        except ValueError:
            numbers = ()
        if not (name.strip() and equals and at and file) or len(numbers) not in (2, 3) or not np.isfinite(numbers).all():
            raise InputError(f"--mark {text}: expected NAME=x,y@photo.jpg or NAME=x,y,z@cloud.ply")
        if name in marks:
            raise InputError(f"--mark {text}: the part {name} is named twice")
        if not Path(file).is_file():
            raise InputError(f"--mark {text}: {file}: no such file")
        marks[name] = numbers, Path(file)
    return marks


def read_up(text: str | None) -> NDArray[np.float64] | None:
    """``X,Y,Z`` of --up as a unit vector. Raises InputError where it is none."""
    from geoseg_ros.runtime.parts import unit_vector

    if text is None:
        return None
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        raise InputError(f"--up: expected X,Y,Z, got {text}") from None
    return unit_vector(numbers, "--up")


def _try(
    options: argparse.Namespace, learner: PartLearner, finder: PartFinder, marks: dict[str, tuple[tuple[float, ...], Path]]
) -> tuple[list[NDArray[np.uint8]], dict[str, Any], list[str]]:
    """Pictures of the marked items and of what the pack is tried on; the counts; a line for each item that was left out."""
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.display.part_pictures import draw_cloud_parts
    from geoseg_ros.display.pictures import fit

    cells = [fit(cell, _CELL) for cell in _marked(marks)]
    tried: dict[str, Any] = {"objects": 0, "given": dict.fromkeys(finder.names, 0)}
    skipped: list[str] = []
    with Stages("cloud", options.json) as progress:
        for number, (source, cloud) in enumerate(_instances(options, skipped), 1):
            try:
                objects = learner.objects(cloud, source)
            except InputError as error:
                skipped.append(str(error))
                continue
            parts = finder.cloud(objects).parts
            tried["objects"] += len(objects)
            for part in parts:
                tried["given"][part.name] += part.point is not None
            if len(cells) < _MOST_TRIED:
                cells.append(fit(draw_cloud_parts(cloud, parts), _CELL))
            progress("trying", number, 0)
    return cells, tried, skipped


def _marked(marks: dict[str, tuple[tuple[float, ...], Path]]) -> Iterator[NDArray[np.uint8]]:
    """A picture of every marked file with the marks on it."""
    from geoseg_ros.display.part_pictures import draw_cloud_parts, draw_image_parts
    from geoseg_ros.io.folders import read_image
    from geoseg_ros.results import PartPoint
    from geoseg_ros.runtime.part_learning import read_object

    for file in dict.fromkeys(path for _, path in marks.values()):
        own = {name: place for name, (place, path) in marks.items() if path == file}
        if len(next(iter(own.values()))) == 2:
            pixels = [PartPoint("", name, 1, pixel=(place[0], place[1]), seen=True) for name, place in own.items()]
            yield draw_image_parts(read_image(file), pixels)
        else:
            points = [PartPoint("", name, 1, point=np.asarray(place), seen=True) for name, place in own.items()]
            yield draw_cloud_parts(read_object(file), points)


def _instances(options: argparse.Namespace, skipped: list[str]) -> Iterator[tuple[str, Cloud]]:
    """Name and cloud of everything that the pack is tried on."""
    from geoseg_ros.io.items import open_clouds
    from geoseg_ros.runtime.part_learning import mesh_cloud

    if options.clouds or options.recording:
        items = open_clouds([*options.clouds, *options.recording])
        for _, name, cloud in items.pick():
            yield str(name), cloud
        skipped += items.warnings
    for folder in options.meshes:
        files = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in (".obj", ".glb", ".ply"))
        if not files:
            raise InputError(f"{folder}: no mesh found, expected files named *.obj, *.glb, *.ply")
        for path in files:
            try:
                yield str(path), mesh_cloud(path)
            except InputError as error:
                skipped.append(str(error))


def _encoded(picture: NDArray[np.uint8]) -> Any:
    import cv2
    import torch

    return torch.from_numpy(cv2.imencode(".jpg", picture[..., ::-1])[1].ravel().copy())
