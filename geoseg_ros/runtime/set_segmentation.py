"""Co-segmentation of a set: every item is labelled with the model learnt from the set, then all items are judged together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.items import Items
from geoseg_ros.methods.base import Context, Segmenter, SetModel
from geoseg_ros.projection.scene import Worked
from geoseg_ros.results import CloudResult, ImageResult, Presence, SetCloud, SetImage, SetResult
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig


def segment_set(
    model: SetModel,
    name: str,
    images: Items[NDArray[np.uint8]],
    clouds: Items[Cloud],
    context: Context,
    config: PipelineConfig,
    outliers: bool = True,
) -> SetResult:
    """Label the items of a set.

    Args:
        model: what was learnt from the set.
        name: the target's label.
        images, clouds: read one at a time.
        context: backbone, progress, and the cache of earlier results.
        outliers: False: every item is known to show the target.
    """
    pipelines: dict[int, Pipeline] = {}  # the model keeps its segmenters, so that their ids stay taken
    known = () if outliers else (name,)

    def judge(kind: str, items: Items[Any], judge_of: Callable[[int], tuple[Segmenter, str]]) -> list[_Judged]:
        judged = []
        for number, item_name, item in items.pick():
            segmenter, version = judge_of(number)
            step = f"judge {version}, shown {known}"
            if id(segmenter) not in pipelines:
                pipelines[id(segmenter)] = Pipeline.of(context.backbone, segmenter, config)
            work = partial(_work, pipelines[id(segmenter)], item, known)
            judged.append(_Judged.read(item_name, name, context.remember(step, item, work)))
            context.progress(f"segmenting {kind}", number + 1, len(items))
        return judged

    image_judged, cloud_judged = judge("images", images, model.image_judge), judge("clouds", clouds, model.cloud_judge)
    verdict = model.decide([j.presence for j in image_judged], [j.presence for j in cloud_judged])
    return SetResult(
        [j.image(bool(shown)) for j, shown in zip(image_judged, verdict.images, strict=True)],
        [j.cloud(bool(shown)) for j, shown in zip(cloud_judged, verdict.clouds, strict=True)],
        verdict.common,
        verdict.p_value,
        model.folds,
        model.used,
        model.pack,
    )


def _work(pipeline: Pipeline, item: NDArray[np.uint8] | Cloud, known: Sequence[str]) -> Worked:
    """Label one item. The result is a dictionary of tensors, for the cache. Label 1 is the target, others are rivals."""
    result: ImageResult | CloudResult
    label: NDArray[np.integer]
    if isinstance(item, Cloud):
        result = pipeline.process_cloud(item, known)
        label, objects = result.label, sum(o.label == 1 for o in result.objects)
    else:
        result = pipeline.process_image(item, known)
        label, objects = result.mask, 0
    presence = result.presence[0]
    numbers = (presence.score, presence.p_value, presence.present, presence.share, sum(result.seconds.values()), objects)
    return {
        "bits": torch.from_numpy(np.packbits(label == 1)),
        "shape": torch.tensor(label.shape),
        "numbers": torch.tensor(numbers, dtype=torch.float64),
    }


@dataclass(frozen=True)
class _Judged:
    """One item, kept small until all are known. Attributes: bits of the flat mask; shape of the mask."""

    name: str
    bits: NDArray[np.uint8]
    shape: tuple[int, ...]
    presence: Presence
    seconds: float
    objects: int

    @classmethod
    def read(cls, name: str, label: str, worked: Worked) -> _Judged:
        score, p_value, present, share, seconds, objects = worked["numbers"].tolist()
        shape = tuple(map(int, worked["shape"]))
        return cls(name, worked["bits"].numpy(), shape, Presence(1, label, score, p_value, bool(present), share), seconds, int(objects))

    def image(self, shown: bool) -> SetImage:
        """The image, whose mask is empty unless it is ``shown``."""
        return SetImage(*self._item(shown))

    def cloud(self, shown: bool) -> SetCloud:
        """The same for a cloud."""
        item = self._item(shown)
        return SetCloud(*item, self.objects if item[3] else 0)

    def _item(self, shown: bool) -> tuple[str, NDArray[np.uint8], tuple[int, ...], bool, float, float, float]:
        present = shown and bool(self.bits.any())
        share = self.presence.share if present else 0.0
        return self.name, self.bits, self.shape, present, self.presence.p_value, share, self.seconds
