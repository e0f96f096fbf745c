"""Name the classes of a scene pack, or list them. Classes that get one name become one class.

The numbers are those of the list, and of the picture beside the pack (home.classes.png), which is drawn anew. The pack itself is changed,
unless --out names another file.

--add gives a pack that was learnt from a teacher (geoseg discover --teacher) one class more, without training: by its name alone, or,
where the teacher has no word for it, by a folder of about five photographs of it (--images). The teacher is the one that the pack was
learnt from. The classes of the network do not change; labels of clouds may. What photographs added was not found in the rooms that were
tried (docs/methods/hicl.md).

example:
  geoseg name home.pack
  geoseg name home.pack 3=chair 5=table 9=table
  geoseg name home.pack --add stool --teacher clip:clip-vit-base-patch16/
  geoseg name home.pack --add stool --teacher prototypes --images stools/
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg_ros.cli.discover import sheet_path, write_sheet
from geoseg_ros.cli.outputs import check_pack_file, check_picture
from geoseg_ros.errors import InputError

if TYPE_CHECKING:
    from geoseg_ros.packs.pack import Pack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("pack", metavar="PACK", help="scene pack of geoseg discover")
    parser.add_argument("names", nargs="*", metavar="NUMBER=NAME", help="class and its name; none: the classes are listed")
    parser.add_argument("--add", metavar="WORD", help="one class more, by its name")
    parser.add_argument("--images", nargs="+", metavar="PATH", help="for --add: photographs of it, for a teacher without a word for it")
    parser.add_argument("--teacher", metavar="NAME", help="for --add: the teacher that the pack was learnt from")
    parser.add_argument("--out", metavar="FILE", help="pack to write (default: PACK itself)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Name classes and return the list of them."""
    from geoseg_ros.packs.pack import Pack
    from geoseg_ros.packs.scene_pack import check_scene_pack, class_shares, renamed

    pack = Pack.load(options.pack)
    check_scene_pack(pack)
    if options.out and not options.names and not options.add:
        raise InputError("--out: expected NUMBER=NAME or --add with it, nothing is named")
    if bool(options.add) != bool(options.teacher):
        raise InputError("--add: expected --teacher with it, and --teacher only with it")
    if options.images and not options.add:
        raise InputError("--images: expected --add with it, the name of what they show")
    out = Path(options.out or pack.path)
    if options.names or options.add:
        pack = renamed(pack, _entries(options.names)) if options.names else pack
        pack = _added(pack, options.add, options.teacher, options.images) if options.add else pack
        if options.out:
            check_pack_file(out, "--out")
        check_picture(sheet_path(out))
        pack.save(out)
        write_sheet(pack, out)
    shares = class_shares(pack)
    classes = [
        {"class": k, "name": name, "share": round(share, 4)} for k, (name, share) in enumerate(zip(pack.classes, shares, strict=True), 1)
    ]
    if not options.json:
        for number, (name, share) in enumerate(zip(pack.classes, shares, strict=True), 1):
            print(f"{number:>4}  {name:<24} {100 * share:5.1f} % of the points")
    return {"pack": str(out), "version": pack.version, "classes": classes}


def _added(pack: Pack, word: str, teacher: str, images: list[str] | None) -> Pack:
    """The pack with a class more, by what the teacher says of its name or of photographs of it."""
    from geoseg_ros.backbones import teachers
    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.io.items import open_images
    from geoseg_ros.learning.taught import photographed_anchor
    from geoseg_ros.methods.registry import open_method
    from geoseg_ros.packs.pack import check_name
    from geoseg_ros.packs.place import Place, with_class
    from geoseg_ros.packs.scene_pack import TEACHER

    check_name(word, "--add")
    learnt, method = pack.info.get(TEACHER), open_method(pack.method)
    if not isinstance(learnt, dict) or method.settings is None:
        raise InputError(f"{pack.path}: was not learnt from a teacher; expected a pack of geoseg discover --teacher")
    asked = teachers.open_teacher(teacher, open_backbone(pack.backbone) if teacher == "prototypes" else None)
    if asked.hash != learnt.get("hash"):
        raise InputError(f"--teacher: {teacher} is not the teacher of the pack ({learnt.get('name')}), or has other weights")
    anchor = photographed_anchor(asked, open_images(images)) if images else asked.encode_text([word])[0].numpy()
    return with_class(Place.from_pack(pack, method.settings()), word, anchor).to_pack()


def _entries(texts: list[str]) -> dict[int, str]:
    """Number of a class -> its name."""
    names: dict[int, str] = {}
    for text in texts:
        number, equals, name = text.partition("=")
        if not equals or not number.isdecimal() or len(number) > 9:
            raise InputError(f"expected NUMBER=NAME such as 3=chair, got {text[:80]!r}")
        if int(number) in names:
            raise InputError(f"{number}: named twice, {names[int(number)]!r} and {name.strip()!r}")
        names[int(number)] = name.strip()
    return names
