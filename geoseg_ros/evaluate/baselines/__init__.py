"""What every learned method has to beat, on identical items. Each baseline is one small function from a set to answers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from geoseg_ros.evaluate.baselines import trivial
from geoseg_ros.evaluate.baselines.memory import PerCloud
from geoseg_ros.evaluate.baselines.proposals import folder_mil, group_prototypes, late_fusion, look_with, pack_prototypes
from geoseg_ros.evaluate.baselines.scosparc import Scosparc
from geoseg_ros.evaluate.baselines.superpoints import superpoint_groups
from geoseg_ros.evaluate.baselines.tokens import two_means
from geoseg_ros.evaluate.items import NamedMethod
from geoseg_ros.evaluate.methods import PackMethod, Tools
from geoseg_ros.methods.base import Material

TRIVIAL = (
    NamedMethod("all foreground", trivial.everything, learns=False),
    NamedMethod("centre prior", trivial.centre, learns=False),
    NamedMethod("minus planes", trivial.minus_planes, learns=False),
    NamedMethod("largest proposal", trivial.largest_proposal, learns=False),
    NamedMethod("random proposal", trivial.random_proposal, learns=False, random=True),
    NamedMethod("best proposals", trivial.oracle_proposals, learns=False, oracle=True),
)
"""Baselines that learn nothing and see with nothing."""


def baselines(tools: Tools) -> list[NamedMethod]:
    """All of them, in the order of the tables."""
    look, sparc = PerCloud(partial(look_with, tools)), Scosparc(tools)
    return [
        *TRIVIAL,
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
