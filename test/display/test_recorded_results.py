"""A recording of a node's outputs, read back for viewing. Needs no ROS."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from geoseg_ros.display.frame import LabelledCloud, LabelledImage
from geoseg_ros.display.recorded_results import RecordedResults
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.messages import results
from geoseg_ros.io.recordings import Recording, RecordingWriter
from geoseg_ros.results import CloudResult, ImageResult, LabelSpace, ObjectInstance
from geoseg_ros.runtime.replay import replay

START = 10**9
STEP = 10**8
TURN = Rotation.from_euler("xyz", [0.1, -0.4, 1.2]).as_matrix()


class Thresholds:
    """Labels what is bright, or above z = 0.5."""

    labels = LabelSpace(("mug", "can"))

    def process_image(self, image: NDArray[np.uint8]) -> ImageResult:
        return ImageResult(np.where(image[..., 0] > 127, 2, 0).astype(np.uint8), [])

    def process_cloud(self, cloud: Cloud) -> CloudResult:
        label = (cloud.xyz[:, 2] > 0.5).astype(np.uint32)
        entry = ObjectInstance(1, "mug", 1, 0.75, 0.02, np.array([1.0, 2, 3]), TURN, np.array([0.1, 0.2, 0.3]), int(label.sum()))
        return CloudResult(label, label, label.astype(np.float32) / 2, [entry], [])


@pytest.fixture
def bags(tmp_path: Path) -> tuple[Path, Path]:
    """Inputs (coloured clouds with a NaN each, images) and what was answered to them."""
    rng = np.random.default_rng(3)
    with RecordingWriter(tmp_path / "in.mcap") as writer:
        for i in range(4):
            xyz = rng.random((30, 3), np.float32)
            xyz[0] = np.nan
            cloud = Cloud(xyz, np.full((30, 3), 10 * i + 5, np.uint8), (5, 6))
            writer.write_cloud("/lidar/points", START + i * STEP, "lidar", cloud)
            writer.write_image("/camera/image", START + i * STEP + 7, "camera", np.full((8, 9, 3), 60 * i, np.uint8))
    with Recording(tmp_path / "in.mcap") as recording:
        replay(recording, Thresholds(), tmp_path / "out.mcap")
    return tmp_path / "in.mcap", tmp_path / "out.mcap"


def test_clouds_and_images_are_joined_with_their_inputs_by_stamp(bags: tuple[Path, Path]) -> None:
    with Recording(bags[1]) as out, Recording(bags[0]) as inputs:
        answered = RecordedResults(out, inputs)
        items = list(answered.items())
    assert answered.labels == Thresholds.labels
    clouds = [item for item in items if isinstance(item, LabelledCloud)]
    images = [item for item in items if isinstance(item, LabelledImage)]
    assert [c.stamp_ns for c in clouds] == [START + i * STEP for i in range(4)] and len(images) == 4
    for i, item in enumerate(clouds):
        assert item.frame == "lidar" and item.cloud.shape == (5, 6) and item.objects_frame == ""
        assert item.cloud.rgb is not None and (item.cloud.rgb == 10 * i + 5).all()
        np.testing.assert_array_equal(item.label, item.cloud.xyz[:, 2] > 0.5)
        (entry,) = item.objects
        np.testing.assert_allclose(entry.rotation, TURN, atol=1e-12)
        assert (entry.name, entry.label, entry.count, entry.p_value) == ("mug", 1, int(item.label.sum()), pytest.approx(0.02))
        assert entry.center.tolist() == [1, 2, 3] and entry.size.tolist() == [0.1, 0.2, 0.3]
    assert [entry.objects[0].track > 0 for entry in clouds][-1], "tracks come along"
    assert [item.found for item in images] == [(), (), (), (2,)]
    assert [int(item.picture[0, 0, 0]) for item in images[:3]] == [0, 60, 120], "nothing is painted where nothing was found"


def test_without_inputs_there_is_no_colour(bags: tuple[Path, Path]) -> None:
    with Recording(bags[1]) as out:
        items = list(RecordedResults(out, out).items())
    assert all(item.cloud.rgb is None for item in items if isinstance(item, LabelledCloud))
    pictures = [item.picture for item in items if isinstance(item, LabelledImage)]
    assert len({int(p[0, 0, 0]) for p in pictures[:3]}) == 1


def test_a_frame_is_what_a_viewer_shows_at_that_time(bags: tuple[Path, Path]) -> None:
    with Recording(bags[1]) as out, Recording(bags[0]) as inputs:
        answered = RecordedResults(out, inputs)
        end, middle, early = answered.frame(), answered.frame(0.25), answered.frame(0.0)
        # backwards as well
        assert middle.cloud is not None and middle.image is not None and end.cloud is not None
        assert (middle.cloud.stamp_ns, middle.image.stamp_ns) == (START + 2 * STEP, START + 2 * STEP + 7)
        assert middle.cloud.cloud.rgb is not None and int(middle.cloud.cloud.rgb[0, 0]) == 25
        assert end.cloud.stamp_ns == START + 3 * STEP and end.image is not None and end.image.found == (2,)
        assert early.cloud is not None and early.cloud.stamp_ns == START and early.image is None


def test_what_nodes_record_differently(bags: tuple[Path, Path], tmp_path: Path) -> None:
    """An overlay instead of a mask, inputs in the same recording, objects in another frame, no label_info, another name."""
    with Recording(bags[1]) as out, Recording(bags[0]) as inputs, RecordingWriter(tmp_path / "all.mcap") as writer:
        for message in inputs.messages():
            writer.write(message.topic, message.type, message.stamp_ns, message.data)
        for message in out.messages():
            name = message.topic.rpartition("/")[2]
            if name == "objects":
                moved = out.decode(message)
                moved.header.frame_id = "odom"
                writer.write_message("/robot/seg/objects", message.stamp_ns, moved)
            elif name != "label_info":
                writer.write(f"/robot/seg/{name}", message.type, message.stamp_ns, message.data)
        writer.write_image("/robot/seg/overlay", START + 1, "camera", np.full((8, 9, 3), 200, np.uint8))
    with Recording(tmp_path / "all.mcap") as both:
        answered = RecordedResults(both, both)
        frame = answered.frame()
        assert answered.labels.names == ("mug",), "as its objects say"
        assert frame.cloud is not None and frame.cloud.objects == () and frame.cloud.objects_frame == "odom"
        assert frame.cloud.cloud.rgb is not None and int(frame.cloud.cloud.rgb[0, 0]) == 35
        assert frame.image is not None and (frame.image.picture == 200).all() and frame.image.found is None
        assert RecordedResults(both, both, node="robot/seg/").frame().cloud is not None


def test_recordings_that_cannot_be_shown(bags: tuple[Path, Path], tmp_path: Path) -> None:
    with Recording(bags[0]) as inputs, Recording(bags[1]) as out:
        with pytest.raises(InputError, match=r"in\.mcap: expected points_labeled, mask or overlay of a node, it has /camera/image, /lidar"):
            RecordedResults(inputs, inputs)
        with pytest.raises(InputError, match="no points_labeled, mask or overlay of /other"):
            RecordedResults(out, out, node="/other")
        with pytest.raises(InputError, match="topic /camera/image is sensor_msgs/msg/Image, expected sensor_msgs/msg/PointCloud2"):
            RecordedResults(out, inputs, points="/camera/image")
        with pytest.raises(InputError, match="no topic /nix"):
            RecordedResults(out, inputs, image="/nix")
    with RecordingWriter(tmp_path / "two.mcap") as writer:
        for node in ("/a", "/b"):
            writer.write_image(f"{node}/mask", START, "camera", np.eye(4, dtype=np.uint8) * 2)
    with Recording(tmp_path / "two.mcap") as two:
        with pytest.raises(InputError, match=r"outputs of several nodes \(/a, /b\), name one"):
            RecordedResults(two, two)
        answered = RecordedResults(two, two, node="/b")
        assert answered.labels.names == ("label 1", "label 2") and answered.frame().image is not None
    with RecordingWriter(tmp_path / "cloud.mcap") as writer:
        writer.write_cloud("/coseg_node/points_labeled", START, "lidar", Cloud(np.zeros((3, 3), np.float32)))
    with Recording(tmp_path / "cloud.mcap") as cloud, pytest.raises(InputError, match="points_labeled: no field label of type uint32"):
        RecordedResults(cloud, cloud)


@pytest.mark.parametrize("text", ["", "[]x", "{}", '[{"id": 0}]', '[{"id": 0, "name": "none"}, {"id": 2, "name": "gap"}]', "[1]"])
def test_bad_label_info(text: str) -> None:
    with pytest.raises(InputError, match="label_info: expected a JSON list of id and name"):
        results.label_space(text)


def test_an_orientation_that_is_none() -> None:
    zero = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=0.0)
    entry = SimpleNamespace(instance=3, center=SimpleNamespace(orientation=zero, position=zero))
    with pytest.raises(InputError, match="objects: object 3 has the orientation 0 0 0 0"):
        results.objects(SimpleNamespace(objects=[entry]))


@pytest.mark.parametrize(("big", "step"), [(False, 24), (True, 20)])
def test_labels_are_read_where_the_message_says(big: bool, step: int) -> None:
    order = ">" if big else "<"
    formats = [order + "f4"] * 3 + [order + "u4"]
    layout = np.dtype({"names": ["x", "y", "z", "label"], "formats": formats, "offsets": [0, 4, 8, 16], "itemsize": step})
    rows = np.zeros(6, layout)
    rows["x"], rows["label"] = np.arange(6), [0, 2, 70_000, 1, 0, 5]
    fields = [
        SimpleNamespace(name=n, offset=o, datatype=d, count=1) for n, o, d in (("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("label", 16, 6))
    ]
    sizes = {"height": 2, "width": 3, "point_step": step, "row_step": 3 * step}
    message = SimpleNamespace(fields=fields, is_bigendian=big, data=rows.tobytes(), **sizes)
    cloud, label = results.labelled_cloud(message)
    assert label.tolist() == [0, 2, 70_000, 1, 0, 5] and cloud.xyz[:, 0].tolist() == list(range(6)) and cloud.shape == (2, 3)
