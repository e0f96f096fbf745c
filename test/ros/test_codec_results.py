"""Results to messages, without a node."""

import array
import struct

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg")

from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from geoseg_ros.results import CloudResult, LabelSpace, ObjectInstance
from geoseg_ros.ros.message_types import InstalledTypes
from support.ros_cases import byte_array, cloud_message, picture, points, positions

TYPES = InstalledTypes()
PALETTE = LabelSpace(("red", "high")).palette()


def labelled(cloud, label):
    label = np.asarray(label, np.uint32)
    return CloudResult(label, label * 10, label.astype(np.float32) / 4, [], [])


def decode_labelled(message):
    """Read with struct, as the field list says."""
    formats = {6: "I", 7: "f"}
    rows = []
    for i in range(message.width * message.height):
        at = i * message.point_step
        rows.append({f.name: struct.unpack_from("<" + formats[f.datatype], message.data, at + f.offset)[0] for f in message.fields})
    return rows


def test_labelled_cloud():
    header = Header(frame_id="lidar")
    header.stamp.sec, header.stamp.nanosec = 11, 12
    xyz = positions(points())
    xyz[2, 1] = np.nan
    cloud = Cloud(xyz, None, (2, 3))
    message = codec.labelled_cloud_message(TYPES, header, cloud, labelled(cloud, [0, 1, 2, 0, 2, 1]), PALETTE)
    assert isinstance(message, PointCloud2) and isinstance(message.data, array.array)
    assert message.header == header
    assert (message.height, message.width, message.point_step, message.row_step, message.is_dense) == (2, 3, 28, 84, False)
    assert len(message.data) == 6 * 28
    rows = decode_labelled(message)
    assert [f.name for f in message.fields] == ["x", "y", "z", "rgb", "label", "instance", "confidence"]
    np.testing.assert_array_equal(np.array([[r["x"], r["y"], r["z"]] for r in rows], np.float32), xyz)
    assert [r["label"] for r in rows] == [0, 1, 0, 0, 2, 1]
    assert [r["instance"] for r in rows] == [0, 10, 0, 0, 20, 10]
    assert [r["confidence"] for r in rows] == [0, 0.25, 0, 0, 0.5, 0.25]
    colours = codec.cloud_from_message(message).rgb
    np.testing.assert_array_equal(colours, PALETTE[[0, 1, 0, 0, 2, 1]])


def test_buffers_are_reused_and_never_mixed():
    header = Header(frame_id="a")
    first = Cloud(positions(points(6)))
    message = codec.labelled_cloud_message(TYPES, header, first, labelled(first, [2] * 6), PALETTE)
    buffer = message.data
    second = Cloud(positions(points(6)) + 1)
    again = codec.labelled_cloud_message(TYPES, Header(frame_id="b"), second, labelled(second, [1] * 6), PALETTE, message)
    assert again is message and again.data is buffer and again.header.frame_id == "b"
    assert {r["label"] for r in decode_labelled(again)} == {1}
    third = Cloud(positions(points(4)))
    last = codec.labelled_cloud_message(TYPES, header, third, labelled(third, [0] * 4), PALETTE, message)
    assert last.width == 4 and len(last.data) == 4 * 28 and last.is_dense
    np.testing.assert_array_equal(codec.cloud_from_message(last).xyz, third.xyz)


def test_obstacle_cloud():
    xyz = positions(points())
    xyz[4, 0] = np.inf
    cloud, label = Cloud(xyz, None, (2, 3)), np.array([0, 1, 2, 0, 2, 1], np.uint32)
    for wanted, rows in (([1], [1, 5]), ([2], [2]), ([1, 2], [1, 2, 5]), ([], [])):
        message = codec.obstacle_cloud_message(TYPES, Header(frame_id="lidar"), cloud, label, wanted)
        assert [f.name for f in message.fields] == ["x", "y", "z"] and message.height == 1 and message.is_dense
        np.testing.assert_array_equal(codec.cloud_from_message(message).xyz, xyz[rows])


def test_empty_cloud_out():
    cloud = Cloud(np.zeros((0, 3), np.float32))
    message = codec.labelled_cloud_message(TYPES, Header(), cloud, labelled(cloud, []), PALETTE)
    assert (message.width, message.row_step, len(message.data), message.is_dense) == (0, 0, 0, True)
    assert codec.obstacle_cloud_message(TYPES, Header(), cloud, np.zeros(0, np.uint32), [1]).width == 0


def test_mask_and_overlay():
    image = picture()
    mask = (image[..., 0] > image[..., 1]).astype(np.uint8)
    message = codec.mask_message(TYPES, Header(frame_id="camera"), mask)
    assert (message.encoding, message.height, message.width, message.step) == ("mono8", 24, 32, 32)
    np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(24, 32), mask)
    overlay = codec.overlay_message(TYPES, Header(), image, mask, PALETTE)
    assert (overlay.encoding, overlay.step, len(overlay.data)) == ("rgb8", 96, 24 * 96)
    pixels = codec.image_from_message(overlay)
    np.testing.assert_array_equal(pixels[mask == 0], image[mask == 0])
    assert (pixels[mask == 1] != image[mask == 1]).any()


def test_set_data_takes_any_layout():
    message = Image()
    codec.set_data(message, np.arange(12, dtype=np.uint16).reshape(3, 4)[:, ::2])
    assert isinstance(message.data, array.array)
    assert np.frombuffer(message.data, np.uint16).tolist() == [0, 2, 4, 6, 8, 10]
    codec.set_data(message, np.zeros((0, 3), np.float32))
    assert len(message.data) == 0


def test_float64_far_from_the_origin_keeps_its_millimetres_and_goes_back():
    far = np.array([691234.123, 5334567.456, 512.789]) + np.c_[np.arange(6) * 0.001, np.zeros(6), np.zeros(6)]
    table = np.zeros(6, [("x", "<f8"), ("y", "<f8"), ("z", "<f8")])
    for axis, name in enumerate("xyz"):
        table[name] = far[:, axis]
    fields = [("x", "f8", 0), ("y", "f8", 8), ("z", "f8", 16)]
    message = cloud_message(points(), fields, 24, data=byte_array(table.tobytes()))
    cloud = codec.cloud_from_message(message)
    np.testing.assert_allclose(np.diff(cloud.xyz[:, 0]), 0.001, atol=1e-6)
    np.testing.assert_allclose(cloud.original(), far, atol=1e-4)
    out = codec.labelled_cloud_message(TYPES, message.header, cloud, labelled(cloud, [1] * 6), LabelSpace(("a",)).palette())
    np.testing.assert_allclose([[row[axis] for axis in "xyz"] for row in decode_labelled(out)], far, rtol=1e-7)


def test_markers_that_are_filled_again_are_as_new_ones():
    palette = PALETTE

    def objects(count):
        return [
            ObjectInstance(1 + i % 2, f"object {i}", i + 1, 0.9, 0.1, np.full(3, float(i)), np.eye(3), np.full(3, 1.0 + i), 5, track=i)
            for i in range(count)
        ]

    message = None
    for count in (2, 0, 3, 1):
        given, header = objects(count), Header(frame_id=f"frame {count}")
        poses = codec.object_poses(TYPES, given)
        message = codec.marker_array(TYPES, header, given, poses, palette, message)
        assert message == codec.marker_array(TYPES, header, given, poses, palette) and len(message.markers) == 1 + 2 * count
