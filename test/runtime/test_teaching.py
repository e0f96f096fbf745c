"""Learning on the robot without ROS: the bounded ring, the examples, what a click picks, and the child's work."""

import errno
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from geoseg_ros.cli import learn_job
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.geometry.analysis import example_cloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.packs.pack import Pack, is_pack
from geoseg_ros.runtime import teaching
from geoseg_ros.runtime.picking import pick_from_cloud, pick_from_image
from geoseg_ros.runtime.pipeline import PipelineConfig
from geoseg_ros.runtime.rgbd import DepthFrame, RecentImages
from geoseg_ros.runtime.teaching import Lesson, Ring
from geoseg_ros.settings import list_settings
from support.fake_learn_job import write_pack
from support.paths import ROOT

NONE = np.zeros(0)


def message(second, size=10):
    return SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=second, nanosec=5)), data=bytes(size))


def test_the_ring_is_bounded_in_number_and_bytes():
    ring = Ring(most=3, size=100)
    for second in range(1, 6):
        ring.add("image", message(second))
    assert ring.find("image").header.stamp.sec == 5 and ring.find("image", 3 * 10**9 + 5).header.stamp.sec == 3
    with pytest.raises(InputError, match="no image of that time is kept, the last 3 are"):
        ring.find("image", 2 * 10**9 + 5)
    ring.add("image", message(6, 95))
    assert ring.find("image").header.stamp.sec == 6
    with pytest.raises(InputError, match="the last 1 are"):
        ring.find("image", 5 * 10**9 + 5)
    ring.add("image", message(7, 1000))
    assert ring.find("image").header.stamp.sec == 7, "the newest stays whatever its size"
    ring.clear()
    with pytest.raises(InputError, match="no message has come"):
        ring.find("image")


def test_a_kept_depth_image_keeps_its_colour():
    ring, colors = Ring(), RecentImages()
    for second in range(1, 30):
        colors.add(message(second))
        ring.add("cloud", DepthFrame(message(second), None, colors, ""))
    assert ring.find("cloud", 3 * 10**9 + 5).color(0.1).header.stamp.sec == 3
    assert len(ring.find("cloud", 3 * 10**9 + 5).colors.between(0, 10**12)) == 1


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", "a\\b", "a\nb", "\x00", "x" * 65, ".hidden", "ä" * 64 + "x"])
def test_names_that_cannot_be_a_label_and_a_file(name, tmp_path):
    with pytest.raises(InputError, match="name"):
        Lesson(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_a_pack_is_replaced(tmp_path):
    (tmp_path / "mug.pack").write_text("my notes")
    (tmp_path / "cup.pack").mkdir()
    for name, reason in (("mug", "exists and is not a pack"), ("cup", "is a folder")):
        with pytest.raises(InputError, match=reason):
            Lesson(name, tmp_path)
    with pytest.raises(InputError, match="lies below a file"):
        Lesson("mug", tmp_path / "mug.pack" / "folder")
    assert (tmp_path / "mug.pack").read_text() == "my notes"
    write_pack(tmp_path / "lid.pack")
    lesson = Lesson("lid", tmp_path)
    (tmp_path / "lid.pack").write_text("my notes, written meanwhile")
    with pytest.raises(InputError, match="is not a pack"):
        lesson.check()
    lesson.close()


def test_examples_that_cannot_be_written_leave_no_trace(tmp_path, monkeypatch):
    lesson = Lesson("mug", tmp_path)

    def full(file, **_):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            lesson.add(np.zeros((4, 4, 3), np.uint8), True)
    assert lesson.described() == "no example" and not list(lesson._folder.iterdir())
    with pytest.raises(InputError, match="no example of 'mug': nothing to learn from"):
        lesson.check_examples()
    lesson.add(np.zeros((4, 4, 3), np.uint8), False)
    with pytest.raises(InputError, match="1 images without it of 'mug': nothing to learn from"):
        lesson.check_examples()
    monkeypatch.setattr(teaching, "MOST", 1)
    with pytest.raises(InputError, match="at most 1 examples"):
        lesson.add(np.zeros((4, 4, 3), np.uint8), True)
    lesson.close()
    assert not lesson._folder.exists()


def test_a_full_disk_and_a_child_that_dies_leave_the_pack_before(tmp_path, monkeypatch):
    monkeypatch.setattr(teaching, "JOB", "support.fake_learn_job")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'test'}")
    for name in ("mug", "dies"):
        write_pack(tmp_path / f"{name}.pack")
    before, stages = (tmp_path / "mug.pack").read_bytes(), []
    lesson, dies = Lesson("mug", tmp_path), Lesson("dies", tmp_path)
    with pytest.raises(GeosegError, match="build of the pack was killed by signal 9"):
        dies.build({}, lambda *_: None, threading.Event())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "mug.pack")

    with monkeypatch.context() as patch:
        patch.setattr(teaching, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            lesson.build({}, lambda *stage: stages.append(stage), threading.Event())
    assert stages == [("clouds", 1, 2)] and (tmp_path / "mug.pack").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dies.pack", "mug.pack"]
    lesson.close()
    dies.close()


def room():
    """Two boxes 0.1 m apart on a floor, and their cloud in a map far away."""
    cloud = example_cloud()
    return cloud, Cloud(cloud.xyz, cloud.rgb, origin=np.array([1000.0, 0, 0]))


def test_a_click_on_a_cloud_erases_every_other_thing():
    cloud, moved = room()
    for scene, click in ((cloud, [0.2, 2.0, -0.7]), (moved, [1000.2, 2.0, -0.7])):
        picked = pick_from_cloud(scene, np.array(click), NONE)
        low, high = np.array(picked.taken[:3]), np.array(picked.taken[3:])
        assert (low < np.array(click) + 0.01).all() and (high > np.array(click) - 0.01).all() and 0.2 < high[0] - low[0] < 0.45
        left = picked.item.xyz[picked.item.valid()]
        raised = left[left[:, 2] > -0.9]
        assert len(raised) and (raised[:, 0] > 0).all() and (left[:, 2] < -0.9).sum() > 5000, "the other box is gone, the floor stays"
    whole = pick_from_cloud(cloud, NONE, NONE)
    assert whole.item is cloud and whole.taken == ()


def test_boxes_and_clicks_beside_everything():
    cloud, _ = room()
    picked = pick_from_cloud(cloud, NONE, np.array([-0.4, 1.7, -1.1, 0.0, 2.3, 0.0]))
    raised = picked.item.xyz[picked.item.xyz[:, 2] > -0.9]
    assert len(raised) and (raised[:, 0] < 0).all()
    for click, box, reason in (
        (np.array([0.0, 50.0, 0.0]), NONE, "nothing stands there"),
        (np.array([5.0, 5.0]), NONE, "no rows and columns"),
        (NONE, np.array([5.0, 5, 5, 6, 6, 6]), "nothing stands there"),
        (NONE, np.array([5.0, 5, 5, 4, 6, 6]), "expected least"),
    ):
        with pytest.raises(InputError, match=reason):
            pick_from_cloud(cloud, click, box)
    with pytest.raises(InputError, match="nothing stands there"):
        pick_from_cloud(Cloud(np.zeros((0, 3), np.float32)), np.zeros(3), NONE)


def test_a_pixel_of_an_organised_cloud():
    cloud, _ = room()
    organised = Cloud(cloud.xyz, cloud.rgb, (100, 100))
    at = np.argmin(np.abs(cloud.xyz - [0.2, 2.0, -0.7]).sum(1))
    picked = pick_from_cloud(organised, np.array([at % 100, at // 100], float), NONE)
    assert picked.taken[0] > 0 and picked.item.shape == (100, 100)
    for click, reason in (([100, 5], "outside the picture of 100 x 100"), ([1e300, -5], "outside")):
        with pytest.raises(InputError, match=reason):
            pick_from_cloud(organised, np.array(click, float), NONE)


def picture():
    image = np.full((240, 320, 3), (90, 120, 90), np.uint8)
    image += np.random.default_rng(0).integers(0, 12, image.shape, np.uint8)
    image[100:160, 150:190] = (200, 40, 30)
    return image


def test_a_click_on_a_picture_takes_what_has_its_colour():
    image = picture()
    picked = pick_from_image(image, np.array([170.0, 130.0]), NONE)
    np.testing.assert_allclose(picked.taken, (150, 100, 190, 160), atol=4)
    assert picked.item.shape[0] == pytest.approx(120, abs=10) and picked.item.shape[1] == pytest.approx(80, abs=10)
    boxed = pick_from_image(image, NONE, np.array([-5.0, -5.0, 40.0, 20.0]))
    assert boxed.taken == (0, 0, 40, 20) and boxed.item.shape == (30, 60, 3)
    for click, box, reason in (
        (np.array([320.0, 5]), NONE, "outside"),
        (NONE, np.array([5.0, 5, 6, 6]), "at least 8 x 8"),
        (NONE, np.array([400.0, 5, 500, 60]), "at least"),
    ):
        with pytest.raises(InputError, match=reason):
            pick_from_image(image, click, box)
    assert pick_from_image(np.zeros((4, 4, 3), np.uint8), NONE, NONE).taken == ()


@pytest.mark.slow
def test_the_child_learns_from_the_examples_and_the_rejections(tmp_path):
    lesson = Lesson("thing", tmp_path)
    cloud, _ = room()
    for click in ([0.2, 2.0, -0.7], [-0.2, 2.0, -0.7]):
        lesson.add(pick_from_cloud(cloud, np.array(click), NONE).item, True)
    lesson.add(pick_from_image(picture(), np.array([170.0, 130.0]), NONE).item, True)
    lesson.add(picture()[:90], False)
    found = learn_job.examples(lesson._folder)
    assert [len(items) for items in found.values()] == [1, 2, 1, 0] and found["clouds"][0].rgb.dtype == np.uint8
    job = {"name": "thing", "folder": str(lesson._folder), "backbone": "geoseg_tiny", "backend": "torch", "device": "cpu"}
    job |= {"precision": "fp32", "cache": None, "config": {s.name: s.default for s in list_settings(PipelineConfig())}}
    stages = []
    learn_job.work(job, lambda *stage: stages.append(stage))
    made = lesson._folder / "made.pack"
    assert is_pack(made) and {"images", "clouds"} <= {stage for stage, _, _ in stages}
    pack = Pack.load(made)
    assert pack.name == "thing" and pack.info["training"]["without_images"] == 1 and pack.info["training"]["clouds"] == 2
    lesson.close()
