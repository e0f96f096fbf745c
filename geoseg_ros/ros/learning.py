"""What the services ``~/learn/*`` do. Loaded when the first target is learnt; the pack is built in a child process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geoseg_ros.backbones.default import DEFAULT
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.files import expanded, home
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.ros.message_types import InstalledTypes
from geoseg_ros.ros.worker import describe
from geoseg_ros.runtime.picking import pick_from_cloud, pick_from_image
from geoseg_ros.runtime.stream_step import StreamStep
from geoseg_ros.runtime.teaching import Lesson, Ring
from geoseg_ros.settings import list_settings

_KINDS = {"cloud": (3, 6), "image": (2, 4)}  # numbers of a click and of a box that belong to it


class Learning:
    """One target at a time: idle, learning (examples are taken), building, loading.

    After a build the examples stay until another target is learnt, or the learning is cancelled: a start of the same name goes on with
    them.
    All methods are for the executor's thread.

    Args:
        node: a CosegNode.
    """

    def __init__(self, node: Any) -> None:
        self._node, self._ring = node, Ring()
        self._step = StreamStep(InstalledTypes(), node.parameters.tracking, warn=lambda line: node.get_logger().warning(line))
        self._state, self._message, self._failed = "idle", "idle", False
        self._lesson: Lesson | None = None
        self._build: _Build | None = None
        self._built = node.create_guard_condition(self._take_built)
        node.diagnostics.learning = self._report

    def start(self, name: str) -> str:
        """Begin; returns what happens next. Raises InputError: in the middle of another, a name that cannot be, a folder likewise."""
        if self._state != "idle":
            raise InputError(f"{self._named()} is being learnt ({self._state}): finish or cancel that first")
        if self._node.diagnostics.state != "active":
            raise InputError(f"the node is {self._node.diagnostics.state}, expected active: there are no inputs to learn from")
        given = self._node.parameters.learn_folder
        folder = Path(expanded(given)) if given else Path(os.environ.get("ROS_HOME") or home() / ".ros") / "geoseg_packs"
        lesson, message = self._lesson, f"learning {name!r}"
        if lesson is not None and lesson.name == name and lesson.out.parent == folder.absolute():
            lesson.check()
            message = f"going on with {lesson.described()} of {name!r}"
        else:
            lesson = Lesson(name, folder)
        try:
            self._check_label(lesson)
        except InputError:
            if lesson is not self._lesson:
                lesson.close()
            raise
        if self._lesson is not None and lesson is not self._lesson:
            self._lesson.close()
        self._lesson = lesson
        self._enter("learning")
        self._node.inputs.remember = self._ring.add
        return f"{message}; ~/learn/finish {'replaces the pack' if lesson.out.exists() else 'makes'} {lesson.out}"

    def add(self, request: Any) -> tuple[str, tuple[float, ...]]:
        """Take an example; returns what was taken, and the box around it."""
        lesson = self._learning()
        click, box = np.array(request.click, np.float64), np.array(request.box, np.float64)
        picked = [self._pick(stream, request, click, box) for stream in self._chosen(request, click, box)]
        for example in picked:
            lesson.add(example.item, request.positive)
        what = " and ".join(example.text for example in picked)
        taken = picked[0].taken if len(picked) == 1 else ()
        return f"{'' if request.positive else 'not '}{lesson.name}: {what}; {lesson.described()}", taken

    def finish(self) -> str:
        """Begin to build the pack from all examples; progress and end are shown on /diagnostics and in the log."""
        lesson = self._learning()
        lesson.check_examples()
        lesson.check()
        parameters, pipeline = self._node.parameters, self._node.worker.pipeline
        settings = {
            "backbone": getattr(pipeline, "backbone_name", "") or parameters.backbone or DEFAULT,
            "backend": parameters.backend,
            "device": parameters.device,
            "precision": parameters.engine_precision,
            "cache": parameters.engine_cache or None,
            "config": {setting.name: setting.default for setting in list_settings(parameters.pipeline)},
        }
        self._forget_inputs()
        self._enter("building")
        self._build = _Build(lesson, settings, self._built.trigger)
        self._build.start()
        return f"building {lesson.out} from {lesson.described()}; /diagnostics shows when it is loaded"

    def cancel(self) -> str:
        """Give up what is being learnt, its examples too; a pack that was built before stays."""
        if self._lesson is None:
            raise InputError("nothing is being learnt")
        name = self._named()
        self._give_up()
        return f"{name} is given up, with its examples"

    def opened(self, failure: str) -> None:
        """The node has opened packs, or failed to."""
        if self._state == "loading":
            self._end(failure)
        elif self._state == "waiting":
            self._load()

    def close(self) -> None:
        """Give everything up, and wait for the child."""
        build = self._build
        self._give_up()
        if build is not None:
            build.join()

    # ----

    def _named(self) -> str:
        return repr(self._lesson.name) if self._lesson else "nothing"

    def _learning(self) -> Lesson:
        if self._lesson is None or self._state != "learning":
            raise InputError(f"nothing is being learnt ({self._state}): call ~/learn/start first")
        return self._lesson

    def _check_label(self, lesson: Lesson) -> None:
        pipeline = self._node.worker.pipeline
        known = () if pipeline is None else pipeline.labels.names
        if lesson.name in known and str(lesson.out) not in map(expanded, self._node.parameters.packs):
            raise InputError(f"name: {lesson.name!r} is found already, by another pack; expected another name, or unload that pack")

    def _chosen(self, request: Any, click: np.ndarray, box: np.ndarray) -> list[str]:
        """The streams that an example is taken from."""
        if click.size and box.size:
            raise InputError("click and box: expected one of them")
        if not (np.isfinite(click).all() and np.isfinite(box).all()):
            raise InputError("click and box: expected finite numbers")
        streams = {name: stream.kind for name, stream in self._node.inputs.streams.items()}
        if request.input not in ("", *_KINDS, *streams):
            known = ", ".join(dict.fromkeys([*_KINDS, *streams]))
            raise InputError(f"input: expected {known} or nothing, got {request.input[:40]!r}")
        fits = {kind: (click.size in (0, sizes[0])) and (box.size in (0, sizes[1])) for kind, sizes in _KINDS.items()}
        named = streams.get(request.input, request.input)
        fits["cloud"] |= named == "cloud" and click.size == 2 and not box.size  # a pixel of an organised cloud
        fitting = [name for name, kind in streams.items() if fits[kind] and request.input in ("", kind, name)]
        if not fitting and request.input and named not in streams.values():
            raise InputError(f"input: the node has no {request.input}")
        if not fitting:
            raise InputError(f"click or box: {max(click.size, box.size)} numbers do not fit {request.input or 'a cloud or an image'}")
        come = [name for name in fitting if name in self._ring.streams()]
        if (click.size or box.size) and len(come) > 1:
            raise InputError(f"input: the click or box may belong to {', '.join(come)}, name one")
        if not (come or request.input or click.size or box.size):
            raise InputError("no cloud and no image has come since the learning began")
        return come or fitting[:1]

    def _pick(self, stream: str, request: Any, click: np.ndarray, box: np.ndarray) -> Any:
        stamp = request.stamp.sec * 10**9 + request.stamp.nanosec
        message, source = self._ring.find(stream, stamp), self._node.inputs.streams[stream]
        scene = self._step.decode(message, source, self._node.parameters)
        if isinstance(scene, Cloud):
            return pick_from_cloud(scene, click, box, self._node.parameters.pipeline.geometry)
        return pick_from_image(scene, click, box)

    def _enter(self, state: str, message: str = "", failed: bool = False) -> None:
        self._state, self._message, self._failed = state, message or state, failed
        self._node.diagnostics.update()  # whoever asked looks there for what comes of it

    def _forget_inputs(self) -> None:
        self._node.inputs.remember = None
        self._ring.clear()

    def _give_up(self) -> None:
        self._forget_inputs()
        build, lesson, self._build, self._lesson = self._build, self._lesson, None, None
        if build is not None:
            build.cancel.set()
        if lesson is not None:
            lesson.close()  # waits for the end of the child, which is killed at once
        self._enter("idle")

    def _take_built(self) -> None:
        """The build has ended."""
        build = self._build
        if build is None or not build.ended:  # the end of one that was given up
            return
        self._build = None
        if build.failure:
            # the examples stay: something may be added, or the cause be mended
            self._node.get_logger().error(f"learn: {build.failure}")
            self._enter("learning", build.failure, failed=True)
            self._node.inputs.remember = self._ring.add
            return
        self._load()

    def _load(self) -> None:
        assert self._lesson is not None
        self._enter("loading")
        try:
            if not self._node.load_pack(str(self._lesson.out)):
                self._enter("waiting", "waiting for other packs to be opened")
            elif self._node.worker.pipeline is None and not self._node.diagnostics.doing:
                self._end("", "written; it is opened when the node is configured")
        except InputError as error:
            self._end(describe(error))

    def _end(self, failure: str, message: str = "loaded, and looked for") -> None:
        assert self._lesson is not None
        line = f"{self._lesson.out}: {failure or message}"
        logger = self._node.get_logger()
        logger.error(f"learn: {line}") if failure else logger.info(f"learn: {line}")
        self._enter("idle", line, failed=bool(failure))

    def _report(self) -> tuple[bool, str, Mapping[str, Any]]:
        message = self._message
        if self._build is not None and self._state == "building":
            message = f"building: {self._build.progress}" if self._build.progress else message
        lesson = self._lesson
        values = {"state": self._state, "name": lesson.name if lesson else "", "pack": str(lesson.out) if lesson else ""}
        return self._failed, message, values | ({"examples": lesson.described()} if lesson else {})


class _Build(threading.Thread):
    """Builds the pack of a lesson.

    Attributes:
        progress: in words.
        cancel: when set, the child is killed.
        ended: ``done`` is called next.
        failure: then, why there is no pack, or empty.
    """

    def __init__(self, lesson: Lesson, settings: Mapping[str, Any], done: Callable[[], None]) -> None:
        super().__init__(name="learning", daemon=True)
        self._lesson, self._settings, self._done = lesson, settings, done
        self.cancel, self.ended = threading.Event(), False
        self.progress = self.failure = ""

    def run(self) -> None:
        try:
            self._lesson.build(self._settings, self._show, self.cancel)
        except (InputError, GeosegError, OSError) as error:
            self.failure = " ".join(str(error).split())
        self.ended = True
        if not self.cancel.is_set():
            self._done()

    def _show(self, stage: str, done: int, total: int) -> None:
        self.progress = f"{stage} {done} of {total}" if total else stage
