"""Opening packs for the node: what is refused at once, and what is shared."""

import dataclasses
import gc
import weakref

import pytest

pytest.importorskip("rclpy")

from geoseg_ros.errors import InputError
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.opening import Opening, PipelineOpener
from geoseg_ros.runtime.pipeline import check_packs


@pytest.fixture
def files(tmp_path, fake_packs):
    found = {}
    for name, pack in fake_packs.items():
        found[name] = str(tmp_path / f"{name}.pack")
        pack.save(found[name])
    found["foreign"] = str(tmp_path / "foreign.pack")
    dataclasses.replace(fake_packs["red"], name="foreign", backbone_hash="0" * 64).save(found["foreign"])
    found["broken"] = str(tmp_path / "broken.pack")
    (tmp_path / "broken.pack").write_bytes(b"junk")
    return found


def test_packs_are_looked_at_without_a_backbone(files):
    assert check_packs([files["red"], files["blue"]]) == ("red", "blue")
    for packs, line in (
        ([], "expected at least one concept pack"),
        ([files["red"], files["red"]], "names must differ, got red, red"),
        ([files["red"], files["broken"]], "broken.pack: not a pack"),
        ([files["red"], files["foreign"]], "'foreign': made with backbone"),
        (["nowhere"], "'nowhere': no such file"),
    ):
        with pytest.raises(InputError, match=line):
            check_packs(packs)


def test_a_backbone_in_use_is_shared_and_freed_with_its_pipeline(files, fake_backbone, monkeypatch):
    opened = []

    class Backbone(type(fake_backbone)):
        pass

    def open_backbone(spec, device):
        opened.append(spec)
        return Backbone()

    monkeypatch.setattr("geoseg_ros.runtime.pipeline.open_backbone", open_backbone)
    opener = PipelineOpener()
    one = opener(NodeParameters(packs=(files["red"],)))
    two = opener(NodeParameters(packs=(files["red"], files["blue"])))
    assert two.backbone is one.backbone and len(opened) == 1 and two.labels.names == ("red", "blue")
    with pytest.raises(InputError, match="'foreign': made with backbone"):
        opener(NodeParameters(packs=(files["foreign"],)))
    assert len(opened) == 2, "another backbone is opened for packs that were made with another one"
    backbone = weakref.ref(one.backbone)
    del one, two
    gc.collect()
    assert backbone() is None, "nothing but the pipelines holds it"
    opener(NodeParameters(packs=(files["blue"],)))
    assert len(opened) == 3


def test_a_failure_is_handed_over():
    def factory(parameters):
        raise MemoryError("no room")

    done = []
    opening = Opening(factory, NodeParameters(), lambda: done.append(True))
    opening.start()
    opening.join(5)
    assert done and opening.finished and opening.pipeline is None and isinstance(opening.failure, MemoryError)
