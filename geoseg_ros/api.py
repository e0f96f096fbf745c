"""The Python API: co-segment a set, learn a concept, open a pipeline. The commands are thin layers over it.

from geoseg_ros import Cloud, cosegment, learn_concept, open_pipeline
"""

from __future__ import annotations

import os
import warnings as python_warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from geoseg_ros import __version__
from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.default import DEFAULT
from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.backbones.teacher import VisionLanguageTeacher
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.items import gather_clouds, gather_images
from geoseg_ros.io.name_lists import check_names
from geoseg_ros.learning.taught import taught
from geoseg_ros.methods.base import Context, Material, Method, SetOptions
from geoseg_ros.methods.registry import LIVE_SETTINGS, open_method
from geoseg_ros.packs.pack import Pack, check_name
from geoseg_ros.progress import Progress, silent
from geoseg_ros.projection.token_cache import TokenCache
from geoseg_ros.results import SetResult
from geoseg_ros.runtime.discovery import lift_places, open_posed_frames
from geoseg_ros.runtime.part_learning import Marks, PartLearner
from geoseg_ros.runtime.parts import unit_vector
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig, open_pipeline
from geoseg_ros.runtime.set_segmentation import segment_set
from geoseg_ros.settings import with_values
from geoseg_ros.simulation.bank import open_bank

__all__ = [
    "Cloud",
    "Pack",
    "Pipeline",
    "PipelineConfig",
    "SetResult",
    "cosegment",
    "discover",
    "learn_concept",
    "learn_parts",
    "open_pipeline",
]

SET_P_MAX = 0.01  # items are taken for unrelated unless their common p-value is below this


def cosegment(
    images: Any = (),
    clouds: Any = (),
    without_images: Any = (),
    without_clouds: Any = (),
    *,
    method: str = "contrast",
    backbone: str | ImageBackbone | None = None,
    outliers: bool = True,
    name: str = "object",
    folds: int = 5,
    seconds: float | None = None,
    keep_pack: bool = False,
    settings: Mapping[str, Any] | None = None,
    config: PipelineConfig | None = None,
    progress: Progress = silent,
    resume: str | os.PathLike[str] | None = None,
) -> SetResult:
    """Find what the items of a set have in common. No labels, no pairing, no calibration.

    Items are arrays (uint8 RGB [H, W, 3]), :class:`Cloud` or paths; a path is a file, a folder or a recording, which are read lazily.

    Args:
        images, clouds: most of them show the target. Either may be empty.
        without_images, without_clouds: items that do not show the target; optional, but they improve the result.
        method: see :func:`geoseg_ros.methods.registry.method_names`.
        backbone: name of an image backbone, or an open one; None: the default one.
        outliers: True: some items may not show the target. False: every item is known to show it, and none is refused.
        name: of the target.
        folds: folds of cross-fitting, 1 to 100; 1: no cross-fitting, every item is judged by a pack learnt from all items.
        seconds: approximate time for reading the items; an evenly spread subset is used where the time is too short. None: no limit.
        keep_pack: return a pack learnt from all items in the result.
        settings: settings of the method that differ from its defaults, by dotted name.
        config: settings of scenes and of the contrast method.
        progress: called with (stage, done, total).
        resume: folder for intermediate results, from which the same call resumes after an interruption. The caller removes it.

    Returns:
        A mask or point labels for every item, and whether the items have anything in common.

    Raises:
        InputError: nothing to learn from, or an argument that cannot be used.
    """
    if not 1 <= folds <= 100:
        raise InputError(f"folds: expected 1 to 100, got {folds}")
    material = _material(name, images, clouds, without_images, without_clouds)
    config = config or PipelineConfig()
    chosen = open_method(method)
    context, kept = _context(chosen, backbone, settings, config, progress, resume)
    model = chosen.learn_set(material, context, SetOptions(outliers, folds, seconds, keep_pack=keep_pack))
    result = segment_set(model, name, gather_images(material.images), gather_clouds(material.clouds), context, config, outliers)
    skipped = [line for items in _sources(material) for line in items.warnings]
    warnings = [kept.trouble] if kept is not None and kept.trouble else []
    if not outliers and result.common_p_value is not None and result.common_p_value >= SET_P_MAX:
        warnings.append(f"the items do not look related (p {result.common_p_value:.2g}); masks are given because of outliers=False")
    return replace(result, skipped=skipped, warnings=warnings)


def learn_concept(
    name: str,
    images: Any = (),
    clouds: Any = (),
    without_images: Any = (),
    without_clouds: Any = (),
    *,
    method: str = "contrast",
    backbone: str | ImageBackbone | None = None,
    seconds: float | None = None,
    settings: Mapping[str, Any] | None = None,
    config: PipelineConfig | None = None,
    progress: Progress = silent,
    resume: str | os.PathLike[str] | None = None,
) -> Pack:
    """Learn a pack with which the live node finds one target. Arguments as of :func:`cosegment`.

    Args:
        name: label of the target, 1 to 64 printable characters.

    Returns:
        The pack; ``Pack.save(path)`` writes it.

    Raises:
        InputError: nothing to learn from, or an argument that cannot be used.
    """
    check_name(name)
    material = _material(name, images, clouds, without_images, without_clouds)
    chosen = open_method(method)
    context, kept = _context(chosen, backbone, settings, config or PipelineConfig(), progress, resume)
    pack = chosen.learn(material, context, seconds)
    if kept is not None and kept.trouble:
        python_warnings.warn(kept.trouble, stacklevel=2)
    return pack


def discover(
    name: str,
    frames: Any = (),
    clouds: Any = (),
    *,
    names: Sequence[str] = (),
    teacher: str | VisionLanguageTeacher | None = None,
    method: str | None = None,
    preset: str = "small",
    classes: int | None = None,
    minutes: float | None = None,
    backbone: str | ImageBackbone | None = None,
    settings: Mapping[str, Any] | None = None,
    config: PipelineConfig | None = None,
    device: str = "cpu",
    limit: int | None = None,
    progress: Progress = silent,
    resume: str | os.PathLike[str] | None = None,
) -> Pack:
    """Learn the classes of a place from recordings of it, without labels. The pack gives every point and pixel one of them.

    Args:
        name: of the pack, 1 to 64 printable characters.
        frames: rooms: folders of posed frames, recordings of a depth camera with transforms, or
            :class:`~geoseg_ros.io.posed_frames.PosedFrames`, such as those of :func:`~geoseg_ros.runtime.recorded_frames.recorded_frames`.
        clouds: clouds of rooms, as of :func:`cosegment`; virtual cameras stand in for a real one.
        names: of the classes, in their order, for a teacher that knows words.
        teacher: name of a vision-language teacher (:func:`geoseg_ros.backbones.teachers.open_teacher`), or an open one.
        method: one that learns from rooms; None: ``hicl`` with a teacher, else ``pointdc``.
        preset: its settings to begin with; of PointDC ``small`` (two processor cores, about half an hour) or ``paper`` (as published).
        classes: number of classes; 0: chosen from the rooms; None: that of the preset.
        minutes: about how long the training may take, after the rooms have been read; None: as long as the preset says.
        backbone: name of an image backbone, or an open one; None: the default one.
        settings: settings of the method that differ from the preset, by dotted name.
        config: settings of scenes.
        device: of the training; ``auto``, ``cpu`` or ``cuda``.
        limit: most frames of a room, evenly spread; None: all.
        progress: called with (stage, done, total).
        resume: folder for intermediate results, from which the same call resumes after an interruption. The caller removes it.

    Returns:
        The pack; ``Pack.save(path)`` writes it.

    Raises:
        InputError: nothing to learn from, or an argument that cannot be used.
    """
    check_name(name)
    if names and teacher is None:
        raise InputError("names: expected a teacher that knows words (--teacher), such as lite2 or clip:FOLDER")
    method = method or ("pointdc" if teacher is None else "hicl")
    chosen = open_method(method)
    given = _room_settings(chosen, method, preset, settings, classes)
    scene = (config or PipelineConfig()).scene
    context, kept = _remembering(Context(_opened(backbone), None, scene, given, device, progress), resume)
    if resume is not None:
        context = replace(context, resume=os.fspath(resume))
    rooms = [frames] if isinstance(frames, (str, os.PathLike)) else list(frames)
    opened_rooms = [open_posed_frames(room, limit) if isinstance(room, (str, os.PathLike)) else room for room in rooms]
    from geoseg_ros.backbones.teachers import open_teacher

    asked = open_teacher(teacher, context.backbone, "cpu") if isinstance(teacher, str) else teacher
    if asked is not None:
        check_teacher(asked, names)
    lifted = lift_places(opened_rooms, gather_clouds(clouds), given.voxel, context, asked)
    said = None if asked is None else taught(asked, names, lifted.views)
    material = Material(name, lifted.images, scenes=lifted.scenes, taught=said)
    pack = chosen.learn(material, context, None if minutes is None else 60 * minutes)
    for line in [line for room in opened_rooms for line in room.warnings] + ([kept.trouble] if kept is not None and kept.trouble else []):
        python_warnings.warn(line, stacklevel=2)
    return pack


def _room_settings(chosen: Method, method: str, preset: str, settings: Mapping[str, Any] | None, classes: int | None) -> Any:
    """A preset of a method that learns from rooms, with the values that were given."""
    if preset not in chosen.presets:
        expected = f"one of {', '.join(chosen.presets)}" if chosen.presets else "another method, this one does not learn from rooms"
        raise InputError(f"preset {preset} of the method {method}: expected {expected}")
    return with_values(chosen.presets[preset], {**(settings or {}), **({} if classes is None else {"classes": classes})})


def check_teacher(teacher: VisionLanguageTeacher, names: Sequence[str]) -> None:
    """Check, before anything is read, that a teacher knows the names of classes.

    Raises:
        InputError: no names for a teacher with text, names for one without, a name that cannot be one, or a word that it does not know.
    """
    if teacher.text:
        teacher.encode_text(check_names(tuple(names), "names: "))
    elif names:
        raise InputError(f"names: the teacher '{teacher.name}' knows no words; give the classes names afterwards (geoseg name)")


def learn_parts(
    name: str,
    marks: Marks,
    *,
    pack: str | os.PathLike[str] | Pack | None = None,
    up: tuple[float, float, float] | None = None,
    backbone: str | ImageBackbone | None = None,
    method: str = "parts",
    config: PipelineConfig | None = None,
) -> Pack:
    """Make a part pack: parts that are marked once are found on other objects of their kind.

    Args:
        name: of the pack, 1 to 64 printable characters.
        marks: name of a part -> (place, item): x, y, z in metres in a :class:`Cloud` or the file of a cloud or mesh, or x, y in pixels on a
            photograph (uint8 RGB or a file). The object of the first mark in a cloud becomes the template.
        pack: concept pack whose objects have the parts; None: every cloud or photograph shows one object and nothing else.
        up: what is up in clouds without a concept pack; None: +z, or for a camera's cloud found from its level surfaces.
        backbone: name of an image backbone, or an open one; None: that of ``pack``, or the default one.
        method: one that finds parts.
        config: settings of scenes.

    Returns:
        The pack; ``Pack.save(path)`` writes it, and ``open_pipeline([concept, parts])`` finds the parts: ``.parts`` of its results.

    Raises:
        InputError: a mark outside the object or the picture, on the background, or in a file that cannot be read.
    """
    check_name(name)
    target = pack if isinstance(pack, Pack) or pack is None else Pack.load(pack)
    opened = _opened(backbone if backbone is not None or target is None else target.backbone)
    if target is not None:
        target.check_backbone(opened.name, opened.hash)
    context = Context(opened, scene=(config or PipelineConfig()).scene)
    return PartLearner(context, target, None if up is None else unit_vector(up)).learn(name, marks, method)


def _material(name: str, images: Any, clouds: Any, without_images: Any, without_clouds: Any) -> Material:
    check_name(name)
    own = gather_images(images), gather_clouds(clouds)
    if not any(len(items) for items in own):
        raise InputError("expected images, clouds, or both")
    return Material(name, *own, gather_images(without_images), gather_clouds(without_clouds))


def _sources(material: Material) -> tuple[Any, ...]:
    return material.images, material.clouds, material.without_images, material.without_clouds


def _context(
    method: Method,
    backbone: str | ImageBackbone | None,
    settings: Mapping[str, Any] | None,
    config: PipelineConfig,
    progress: Progress,
    resume: str | os.PathLike[str] | None,
) -> tuple[Context, TokenCache | None]:
    opened = _opened(backbone)
    bank = open_bank(opened, progress)
    given = _settings(method, settings or {}, config)
    context = Context(opened, bank, config.scene, given, progress=progress)
    return _remembering(context, resume, bank.mean.tolist(), bank.source, config, given)


def _opened(backbone: str | ImageBackbone | None) -> ImageBackbone:
    return open_backbone(backbone or DEFAULT) if backbone is None or isinstance(backbone, str) else backbone


def _remembering(context: Context, folder: str | os.PathLike[str] | None, *depends_on: Any) -> tuple[Context, TokenCache | None]:
    """The context with a cache of results in ``folder``, and the cache; neither where there is no folder. What else the results depend on
    than version and backbone is in ``depends_on``."""
    if folder is None:
        return context, None
    backbone = context.backbone
    kept = TokenCache(Path(folder), (__version__, backbone.hash, getattr(backbone, "backend", ""), *depends_on))
    return replace(context, remember=kept.remember), kept


def _settings(method: Method, settings: Mapping[str, Any], config: PipelineConfig) -> Any:
    """Settings of the method with the given values. The contrast method shares some of them with the pipeline."""
    shared = getattr(config, LIVE_SETTINGS[method.name]) if method.name in LIVE_SETTINGS else None
    if not settings:
        return shared
    if method.settings is None:
        raise InputError(f"method {method.name}: has no settings, got {', '.join(settings)}")
    defaults = method.settings()
    if shared is not None:
        defaults = replace(defaults, **{LIVE_SETTINGS[method.name]: shared, "views": config.views, "geometry": config.geometry})
    return with_values(defaults, settings)
