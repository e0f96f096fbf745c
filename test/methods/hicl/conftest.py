"""Trainings use the small network, and packs may hold it; a named scene pack of four rooms, learnt once."""

from __future__ import annotations

import pytest

from geoseg_ros.methods.base import Context, Material
from geoseg_ros.methods.hicl import method
from geoseg_ros.packs import place
from support.fake_world import FakeBackbone
from support.hicl_worlds import SMALL, taught
from support.pointdc_worlds import Pointwise, photograph, room


@pytest.fixture(autouse=True, scope="package")
def pointwise():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "new_network", lambda config, dim: Pointwise(dim, config.voxel))
        patch.setitem(place.NETWORKS, "pointwise", Pointwise)
        yield


def material(accuracy: float = 0.65, named: bool = True) -> Material:
    """Four rooms of which the teacher says much that is wrong."""
    rooms = [room(seed) for seed in range(4)]
    return Material("home", [photograph()[0]], scenes=[scene for scene, _ in rooms], taught=taught(rooms, accuracy, named))


@pytest.fixture(scope="package")
def home(pointwise):
    return method.HICLMethod().learn(material(), Context(FakeBackbone(), settings=SMALL))
