"""Marked parts live: ``~/parts``, markers and ``~/where`` of a node, and the same from ``replay``."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("geoseg_ros.srv", reason="the installed messages are older than msg/ and srv/: install the package again")

from rclpy.serialization import deserialize_message
from visualization_msgs.msg import MarkerArray

from geoseg_ros import msg as messages
from geoseg_ros.api import learn_parts
from geoseg_ros.io.messages import stamp_ns
from geoseg_ros.io.messages.parts import parts as read_parts
from geoseg_ros.io.recordings import Recording, RecordingWriter
from geoseg_ros.runtime.node_parameters import NodeParameters
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig
from geoseg_ros.runtime.replay import replay
from geoseg_ros.runtime.tracking import TrackingConfig
from geoseg_ros.srv import Where
from support.fake_world import CONFIG
from support.part_worlds import table_with_mug

pytestmark = pytest.mark.dds

START, SECOND = 10**11, 10**9
PARAMETERS = {"tracking.confirm": 1}


@pytest.fixture(scope="module")
def opened(fake_backbone, fake_packs):
    """Makes a pipeline with the parts of red mugs."""
    cloud, marks = table_with_mug(0, 0.3)
    marked = {name: (tuple(marks[name]), cloud) for name in ("handle", "rim")}
    pack = learn_parts("mug parts", marked, pack=fake_packs["red"], backbone=fake_backbone)
    return lambda: Pipeline(fake_backbone, [fake_packs["red"], pack], PipelineConfig(coseg=CONFIG.coseg))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A recording of two clouds with a mug and one without, and where the handles are."""
    path = tmp_path_factory.mktemp("parts") / "in.mcap"
    truth = []
    with RecordingWriter(path) as writer:
        for k in range(2):
            cloud, marks = table_with_mug(5, 2.0 + 0.1 * k, ("green", "yellow"), 1.2)
            writer.write_cloud("/lidar", START + k * SECOND // 5, "camera", cloud)
            truth.append(marks["handle"])
    return path, truth


def test_live_and_replayed(live, opened, recorded, tmp_path) -> None:
    path, truth = recorded
    node = live(opened(), listen=[], **PARAMETERS)
    node.listen("parts", messages.PartArray)
    node.listen("markers", MarkerArray)
    nothing = node.call(Where, "where", Where.Request(part="handle"))
    assert not nothing.success and "no cloud with a part pack yet" in nothing.message
    with Recording(path) as recording:
        for raw in recording.messages():
            node.send_and_wait("points", raw.data, "cloud")
    node.wait(lambda: len(node.received["parts"]) == 2 and len(node.received["markers"]) == 2)
    for message, handle in zip(node.received["parts"], truth, strict=True):
        found = {part.name: part for part in read_parts(message)}
        assert message.header.frame_id == "camera" and set(found) == {"handle", "rim"}
        assert np.linalg.norm(found["handle"].point - handle) < 0.05 and found["handle"].seen
        assert (found["handle"].object, found["handle"].track, found["handle"].label) == ("red", 1, 1)
    names = [marker.ns for marker in node.received["markers"][-1].markers[1:]]
    given = sum(part.point is not None for part in found.values())
    assert names == ["boxes", "names", *["parts", "part names"] * given]

    answer = node.call(Where, "where", Where.Request(object="red", part="handle", track_id=1))
    assert answer.success and answer.message == "1 of 1 objects" and answer.header.frame_id == "camera"
    assert np.isclose(answer.parts[0].point.x, found["handle"].point[0])
    for request, line in (
        (Where.Request(part="lid"), "part 'lid': unknown, expected one of handle, rim"),
        (Where.Request(object="blue", part="handle"), "object 'blue': has no part pack, expected one of red"),
        (Where.Request(part="handle", track_id=9), "track_id 9: not in the newest cloud, expected one of 1"),
        (Where.Request(point=messages.Part(point=_point(9.0)).point), "from the template, expected a point on it"),
    ):
        refused = node.call(Where, "where", request)
        assert not refused.success and line in refused.message and not refused.parts
    assert node.lines == []

    with Recording(path) as recording:
        parameters = NodeParameters(tracking=TrackingConfig(confirm=1))
        replay(recording, opened(), tmp_path / "out.mcap", parameters)
    with Recording(tmp_path / "out.mcap") as recording:
        replayed = [deserialize_message(raw.data, messages.PartArray) for raw in recording.messages(["/coseg_node/parts"])]
    assert [stamp_ns(message.header) for message in replayed] == [START, START + SECOND // 5]
    assert replayed == node.received["parts"]


def _point(value: float):
    from geometry_msgs.msg import Point

    return Point(x=value, y=value, z=value)
