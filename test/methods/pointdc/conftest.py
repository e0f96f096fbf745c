"""A scene pack of four rooms, learnt once."""

from __future__ import annotations

import pytest

from geoseg_ros.methods.base import Context, Material
from geoseg_ros.methods.pointdc import method
from geoseg_ros.packs import place
from support.fake_world import FakeBackbone
from support.pointdc_worlds import SMALL, Pointwise, photograph, room


@pytest.fixture(autouse=True, scope="package")
def pointwise():
    """Trainings use the small network, and packs may hold it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "new_network", lambda config: Pointwise(config.dim, config.voxel))
        patch.setitem(place.NETWORKS, "pointwise", Pointwise)
        yield


@pytest.fixture(scope="package")
def home(pointwise):
    """A pack of four classes."""
    material = Material("home", [photograph()[0]], scenes=[room(seed)[0] for seed in range(4)])
    return method.PointDCMethod().learn(material, Context(FakeBackbone(), settings=SMALL))
