"""Cost of the pipeline for clouds of several sizes, an image, and more concepts. No ROS, nothing is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

_PACKS = ("stool", "lamp")
_IMAGE_SHAPE = (480, 640)
_CONCEPTS = (1, 2, 4, 8)
_NOISE = 0.003  # metres, of a point that is made from another one


@dataclass(frozen=True)
class Cost:
    """Attributes: what; size of it; p50, p95: wall time, milliseconds; processor: time of all threads, median, milliseconds."""

    what: str
    size: int
    p50: float
    p95: float
    processor: float


def measure_pipeline(points: Sequence[int], repeat: int) -> dict[str, Any]:
    """Measure the pipeline with the shipped packs on a simulated depth cloud and an image.

    Clouds of other sizes are sampled from that of the camera, with ``_NOISE`` on repeated points. More concepts are copies of the shipped
    ones under other names.

    Args:
        points: sizes of clouds. repeat: runs of each, after one that does not count.

    Returns:
        ``backend``, ``rows`` (:class:`Cost` as dictionaries), and ``exponent`` of the processor time over the number of points, by least
        squares of logarithms; None where there is one size only.
    """
    from geoseg_ros.geometry.cloud import Cloud
    from geoseg_ros.packs.pack import Pack
    from geoseg_ros.runtime.engines.options import EngineOptions
    from geoseg_ros.runtime.pipeline import Pipeline, open_pipeline
    from geoseg_ros.simulation.rooms import SeedSource
    from geoseg_ros.simulation.sets import make_cloud, make_image, make_set_config

    pipeline = open_pipeline(_PACKS, engines=EngineOptions())
    set_config = replace(make_set_config("easy"), image_size=_IMAGE_SHAPE[::-1])
    cloud = make_cloud(SeedSource(900, "bench"), _PACKS[0], (), set_config, "depth").cloud
    picture = make_image(SeedSource(901, "bench"), _PACKS[0], (), set_config).rgb
    valid = np.flatnonzero(cloud.valid())
    rows = []
    for count in points:
        rng = np.random.default_rng(0)
        chosen = rng.permutation(np.resize(valid, count))
        noise = rng.normal(0, _NOISE if count > len(valid) else 0, (count, 3)).astype(np.float32)
        drawn = Cloud(cloud.xyz[chosen] + noise, None if cloud.rgb is None else cloud.rgb[chosen])
        rows.append(_cost("cloud, points", count, partial(pipeline.process_cloud, drawn), repeat))
    loaded = [Pack.load(name) for name in _PACKS]
    for count in _CONCEPTS:
        named = [replace(loaded[k % len(loaded)], name=f"{loaded[k % len(loaded)].name}{k}") for k in range(count)]
        more = Pipeline(pipeline.backbone, named)
        rows.append(_cost("picture 640x480, concepts", count, partial(more.process_image, picture), repeat))
    sizes = [(row.size, row.processor) for row in rows if row.what.startswith("cloud")]
    logs = np.log(np.array(sizes, np.float64))
    exponent = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0]) if len(set(points)) > 1 else None
    return {"backend": pipeline.backend, "rows": [asdict(row) for row in rows], "exponent": exponent}


def _cost(what: str, size: int, work: Callable[[], object], repeat: int) -> Cost:
    work()
    wall, processor = [], []
    for _ in range(repeat):
        begin = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - begin[0])
        processor.append(time.process_time() - begin[1])
    p50, p95 = 1e3 * np.percentile(wall, (50, 95))
    return Cost(what, size, float(p50), float(p95), 1e3 * float(np.median(processor)))
