"""What every learned method has to beat, on identical items. Each baseline is one small function from a set to predictions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from benchmarks.baselines.proposals import folder_mil, group_prototypes, late_fusion, look_with, pack_prototypes
from benchmarks.baselines.scosparc import Scosparc
from benchmarks.baselines.superpoints import superpoint_groups
from benchmarks.baselines.tokens import two_means
from geoseg_ros.evaluate.items import NamedMethod
from geoseg_ros.evaluate.methods import PackMethod, Tools
from geoseg_ros.evaluate.trivial import PerCloud
from geoseg_ros.methods.base import Material


def baselines(tools: Tools) -> list[NamedMethod]:
    """All of them, in the order of the tables."""
    look, sparc = PerCloud(partial(look_with, tools)), Scosparc(tools)
    return [
        NamedMethod("token 2-means", two_means(tools), learns=False, random=True, backbone=True),
        NamedMethod("SCoSPARC stage 1", sparc.stage(1), random=True, backbone=True),
        NamedMethod("SCoSPARC stages 1+2", sparc.stage(2), random=True, backbone=True),
        NamedMethod("superpoint k-means", superpoint_groups, random=True),
        NamedMethod("folder MIL, clouds only", folder_mil(tools, look), random=True, backbone=True),
        NamedMethod("contrast, clouds only", PackMethod(tools, _clouds_only), backbone=True),
        NamedMethod("late fusion, 2-means", late_fusion(tools, look, partial(group_prototypes, tools)), random=True, backbone=True),
        NamedMethod("late fusion, contrast", late_fusion(tools, look, partial(pack_prototypes, tools)), backbone=True),
    ]


def _clouds_only(concept: Material) -> Material:
    return replace(concept, images=(), without_images=())
