"""One run of ``geoseg evaluate``: from a table's name to its figures and its Markdown report."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.false_alarms import false_alarms
from geoseg_ros.evaluate.false_alarms import markdown as false_alarms_markdown
from geoseg_ros.evaluate.items import CosegSet, NamedMethod, paper_protocol
from geoseg_ros.evaluate.methods import Tools, further_methods, own_methods
from geoseg_ros.evaluate.table import Look, known, markdown, measure, summarise
from geoseg_ros.evaluate.trivial import TRIVIAL
from geoseg_ros.progress import Progress
from geoseg_ros.runtime.pipeline import Pipeline

Log = Callable[[str], object]
PROTOCOLS = ("robot", "paper", "both")
MADE_ON_DEMAND = ("world", "false-alarms")  # need no data
SENSOR = {"world": "lidar", "furniture": "depth"}  # what simulates the clouds of a table, unless the request says otherwise


@dataclass(frozen=True)
class Request:
    """What to measure: the options of ``geoseg evaluate``. None and empty stand for a table's default."""

    table: str
    root: str | None = None
    images: str | None = None
    split: str = "report"
    protocol: str | None = None
    methods: Sequence[str] = ()
    seeds: Sequence[int] = (0, 1, 2)
    preset: str = "standard"
    families: Sequence[str] = ()
    sensor: str | None = None
    cache: str | None = None
    items: int | None = None
    packs: Sequence[str] = ("stool", "lamp")
    data: str = "rooms"
    teacher: str = "lite2"

    @property
    def folder(self) -> Path:
        """``root`` of a request that was checked."""
        return Path(self.root or ".")

    def check(self) -> None:
        """Raise InputError for options that do not fit the table, before anything is loaded."""
        if self.table in MADE_ON_DEMAND or self._simulated:
            if self.root is not None:
                raise InputError(f"--root: not used by --table {self.table}, which is made on demand")
        elif self.root is None:
            raise InputError(f"--root: expected the folder of the data of --table {self.table}")
        elif not Path(self.root).is_dir():
            raise InputError(f"--root {self.root}: no such folder")
        if self.cache is not None and self.table != "furniture" and not (self.table == "semantics" and self.data in ("rooms", "furniture")):
            raise InputError(f"--cache: not used by --table {self.table}")
        if self.table not in COSEG_TABLES:
            if self.images is not None:
                raise InputError(f"--images: not used by --table {self.table}")
            return
        if self.protocol not in (None, "paper"):
            raise InputError(f"--protocol {self.protocol}: --table {self.table} has paper alone")
        if self.split != "report":
            raise InputError(f"--split {self.split}: --table {self.table} has report alone, no setting was chosen on it")
        if self.images is not None and not Path(self.images).is_dir():
            raise InputError(f"--images {self.images}: no such folder")

    @property
    def _simulated(self) -> bool:
        return self.table in ("semantics", "named-semantics") and self.data == "rooms" or self.table == "parts" and self.root is None

    @property
    def sensed(self) -> str:
        """The sensor of a table of ``SENSOR``, with the default filled in."""
        return self.sensor or SENSOR[self.table]

    @property
    def protocols(self) -> str:
        """Of ``PROTOCOLS``, with the default filled in."""
        return "paper" if self.table in COSEG_TABLES else self.protocol or "robot"

    def words(self) -> list[str]:
        """The options that repeat the measurement, without paths of this machine."""
        table, items = ["--table", self.table], [] if self.items is None else ["--items", str(self.items)]
        data = ["--root", "DIR", "--split", self.split]
        if self.table in SENSOR:
            families = ["--families", *self.families] if self.families else []
            made = ["--preset", self.preset] if self.table == "world" else data
            return [*table, *made, *families, "--sensor", self.sensed, *items]
        if self.table in COSEG_TABLES:
            return [*table, "--root", "DIR", *(["--images", "DIR"] if self.images else []), *items]
        return [*table, *data, *(items if self.table == "crowded" else [])]


def _msrc(request: Request, log: Log) -> list[CosegSet]:
    from geoseg_ros.evaluate.msrc import msrc_sets, read_photographs

    return msrc_sets(read_photographs(request.folder), request.split)


def _world(request: Request, log: Log) -> list[CosegSet]:
    from geoseg_ros.evaluate.world import world_sets

    return world_sets(request.preset, request.families, request.seeds, request.items, request.sensed, log)


def _crowded(request: Request, log: Log) -> list[CosegSet]:
    from geoseg_ros.evaluate.crowded_tables import crowded_sets

    return crowded_sets(request.folder, request.split, request.seeds, request.items)


def _furniture(request: Request, log: Log) -> list[CosegSet]:
    from geoseg_ros.evaluate.furniture import furniture_sets

    cache = None if request.cache is None else Path(request.cache)
    return furniture_sets(request.folder, request.split, request.families, request.seeds, request.items, request.sensed, cache, log)


def _papers(request: Request, log: Log) -> list[CosegSet]:
    from geoseg_ros.evaluate.coseg_sets import s3dis_sets, scanobjectnn_sets

    make = s3dis_sets if request.table == "s3dis-coseg" else scanobjectnn_sets
    return make(request.folder, None if request.images is None else Path(request.images), request.items, log)


COSEG_TABLES = ("s3dis-coseg", "scanobjectnn-coseg")
Sets = Callable[[Request, Log], list[CosegSet]]


class Suite:
    """The tables of co-segmentation sets and the methods of ``geoseg evaluate``. A subclass adds its own.

    Attributes:
        program: words of the command, for the report.
        tables: by name, what makes the sets.
        look: called with the predictions of every run, or None.
    """

    program: tuple[str, ...] = ("geoseg", "evaluate")
    tables: Mapping[str, Sets] = {
        **{"crowded": _crowded, "msrc": _msrc, "furniture": _furniture, "world": _world},
        **dict.fromkeys(COSEG_TABLES, _papers),
    }
    look: Look | None = None

    def groups(self, tools: Tools) -> dict[str, list[NamedMethod]]:
        """Further groups of methods; those of the group ``baselines`` join the default."""
        return {}

    def prepare(self, request: Request, sets: list[CosegSet]) -> list[CosegSet]:
        """The sets that are measured; called before any is."""
        return sets

    def report(self, request: Request, result: dict[str, Any]) -> str:
        """More Markdown, from the result, to which figures may be added."""
        return ""

    def words(self) -> list[str]:
        """Options of the command beside those of ``geoseg evaluate``."""
        return []

    def choose(self, tools: Tools, names: Sequence[str]) -> list[NamedMethod]:
        """The methods of these names and groups, each once. Raises InputError for an unknown one."""
        more = self.groups(tools)
        baselines = [*TRIVIAL, *more.get("baselines", [])]
        groups = {"own": own_methods(tools), "methods": further_methods(tools), **more, "baselines": baselines}
        every = [method for group in groups.values() for method in group]
        known_names = {method.name: [method] for method in every} | groups | {"all": [*groups["own"], *baselines]}
        for name in names:
            if name not in known_names:
                raise InputError(f"--methods {name}: unknown, expected some of {', '.join(known_names)}")
        wanted = {method.name for name in names for method in known_names[name]}
        return [method for method in every if method.name in wanted]


def evaluate_sets(request: Request, tools: Tools, backbone: str, log: Log, suite: Suite | None = None) -> tuple[dict[str, Any], str]:
    """Measure the methods on the sets of a table.

    Args:
        backbone: name of the backbone, for the report.
        log: called with a line for each step.
        suite: tables and methods; None: those of the package.

    Returns:
        The figures, ready for JSON, and the report, Markdown.

    Raises:
        InputError: unknown methods, or data that cannot be used.
    """
    suite = suite or Suite()
    methods = suite.choose(tools, request.methods or ["all"])
    sets = suite.tables[request.table](request, log)
    wanted = suite.prepare(request, [*_robot_sets(request, sets), *_paper_sets(request, sets)])
    rows = measure(wanted, methods, request.seeds, log, suite.look)
    words = [*suite.program, *request.words(), "--protocol", request.protocols, "--backbone", backbone]
    words += ["--seeds", *map(str, request.seeds), *(["--methods", *request.methods] if request.methods else []), *suite.words()]
    about = {"backbone": backbone, "supervision": tools.backbone.supervision, "command": shlex.join(words)}
    rows = [{**row, **about, "backbone": backbone if row["backbone"] else None} for row in rows]
    title = {"world": "procedural world"}.get(request.table, request.table)
    title += "" if request.table in (*MADE_ON_DEMAND, *COSEG_TABLES) else f", split {request.split}"
    result = {"title": f"Evaluation: {title}", **about, "summary": summarise(rows), "rows": rows}
    text = markdown(result) + suite.report(request, result)
    return known(result), text


def _robot_sets(request: Request, sets: Sequence[CosegSet]) -> list[CosegSet]:
    return [items for items in sets if items.protocol == "paper" or request.protocols != "paper"]


def _paper_sets(request: Request, sets: Sequence[CosegSet]) -> list[CosegSet]:
    """The sets under the paper protocol, where it is asked for; sets that differ in what is learnt from are one set there."""
    largest: dict[tuple[str, str, int | None], CosegSet] = {}
    for items in sets if request.protocols != "robot" else ():
        key = (items.group, items.name, items.seed)
        if items.protocol != "paper" and (key not in largest or items.shown > largest[key].shown):
            largest[key] = items
    return [paper_protocol(items) for items in largest.values() if items.shown]


def evaluate_tabletop(request: Request, tools: Tools, backbone: str, log: Log) -> tuple[dict[str, Any], str]:
    """The table of table-top scenes; arguments and result as of :func:`evaluate_sets`."""
    from geoseg_ros.evaluate.tabletop_table import markdown as tabletop_markdown
    from geoseg_ros.evaluate.tabletop_table import table

    result = table(request.folder, request.split, tools.backbone, tools.bank, tools.config, log) | {"backbone": backbone}
    command = f"geoseg evaluate --table tabletop --root DIR --split {request.split} --backbone '{backbone}'"
    return result, f"{tabletop_markdown(result)}\nCommand: `{command}`\n"


def evaluate_semantics(request: Request, tools: Tools, backbone: str, log: Log) -> tuple[dict[str, Any], str]:
    """The table of semantic segmentation without labels, or with the names that a teacher knows; arguments and result as of
    :func:`evaluate_sets`."""
    from geoseg_ros.backbones.teachers import open_teacher
    from geoseg_ros.evaluate.semantics import table
    from geoseg_ros.evaluate.semantics.baselines import baselines
    from geoseg_ros.evaluate.semantics.lifting import lifted_rooms
    from geoseg_ros.evaluate.semantics.places import known_words, named_methods, place_methods
    from geoseg_ros.evaluate.semantics.sources import lift_config, semantic_rooms

    teacher = open_teacher(request.teacher, tools.backbone) if request.table == "named-semantics" else None
    root = None if request.root is None else Path(request.root)
    learn_items = request.items if request.items is None else max(1, round(2.5 * request.items))  # 40 to 16, as without --items
    cache = None if request.cache is None else Path(request.cache)
    config, virtual = lift_config(request.data)
    halves = [
        semantic_rooms(request.data, split, root, count, 0, request.preset)
        for split, count in (("learn", learn_items), ("measure", request.items))
    ]
    classes = halves[0].classes
    names = {} if teacher is None else known_words(teacher, classes)
    every = [*baselines(), *place_methods(tools.backbone)] if teacher is None else named_methods(tools.backbone, teacher, names)
    methods = table.choose(request.methods, every)
    learn, measured = (lifted_rooms(rooms, tools.backbone, config, virtual, cache, log, teacher) for rooms in halves)
    rows = table.measure(learn, measured, classes, methods, request.seeds, log=log, known=set(names.values()))
    words = ["geoseg", "evaluate", "--table", request.table, "--data", request.data, *(["--root", "DIR"] if root else [])]
    words += [] if teacher is None else ["--teacher", teacher.name]
    words += ["--preset", request.preset] if request.data in ("rooms", "furniture") else []
    words += [*([] if request.items is None else ["--items", str(request.items)]), "--seeds", *map(str, request.seeds)]
    command = shlex.join([*words, *(["--methods", *request.methods] if request.methods else []), "--backbone", backbone])
    title = "Semantic segmentation without labels" if teacher is None else "Named classes"
    title += f": {request.data}" + (f", {request.preset}" if "--preset" in words else "")
    result: dict[str, Any] = {
        "title": title,
        "data": request.data,
        "classes": list(classes),
        "backbone": backbone,
        "command": command,
    }
    result |= {"supervision": tools.backbone.supervision, "about": table.about(learn, measured)}
    result |= {"summary": table.summarise(rows), "rows": rows}
    if teacher is not None:
        result["words"] = f"Teacher {teacher.name} ({teacher.supervision}), its words: " + ", ".join(
            f"{word} ({classes[k]})" for word, k in names.items()
        )
    return known(result), table.markdown(result)


def evaluate_tokens(request: Request, backbone: ImageBackbone, progress: Progress) -> tuple[dict[str, Any], str]:
    """How well the tokens of a backbone alone separate the classes of MSRC; the split ``report`` is all photographs."""
    from geoseg_ros.evaluate.msrc import in_split, read_photographs
    from geoseg_ros.evaluate.token_classes import backbone_tokens, token_classes

    photographs = [p for p in read_photographs(request.folder) if request.split == "report" or in_split(p, request.split)]
    done = itertools.count(1)
    score = token_classes(backbone_tokens(backbone), photographs, lambda: progress("tokens", next(done), len(photographs)))
    result = asdict(score) | {"backbone": backbone.name, "supervision": backbone.supervision, "split": request.split}
    row = f"{backbone.name} | {request.split} | {score.photographs} | {score.tokens} | {score.pixel:.3f} | {score.class_mean:.3f}"
    return result, f"| backbone | split | photographs | tokens | pixel | class mean |\n|---|---|---|---|---|---|\n| {row} |\n"


def evaluate_correspondences(request: Request, backbone: ImageBackbone, log: Log) -> tuple[dict[str, Any], str]:
    """Whether places are found again on other instances: simulated ones, or photographs where the request has a root."""
    from geoseg_ros.evaluate.parts.table import evaluate_parts

    if request.items is not None and not 1 <= request.items <= 10_000:
        raise InputError(f"--items: expected 1 to 10000 pairs, got {request.items}")
    root = None if request.root is None else request.folder
    return evaluate_parts(backbone, root, request.families, request.seeds, request.items, log)


def evaluate_false_alarms(request: Request, open_packs: Callable[[Sequence[str]], Pipeline], log: Log) -> tuple[dict[str, Any], str]:
    """How often packs report their target in rooms without it; ``open_packs`` opens the packs that the request names."""
    rooms = 100 if request.items is None else request.items
    if not 1 <= rooms <= 10_000:
        raise InputError(f"--items: expected 1 to 10000 rooms, got {rooms}")
    pipeline, seed = open_packs(request.packs), request.seeds[0]
    command = f"geoseg evaluate --table false-alarms --packs {' '.join(request.packs)} --items {rooms} --seeds {seed}"
    result = false_alarms(pipeline, rooms, seed, request.preset, log) | {"command": command}
    return result, f"{false_alarms_markdown(result)}\nBackbone `{pipeline.backbone_name}`. Command: `{command}`\n"
