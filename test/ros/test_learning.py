"""Learning over the services of a live node."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from std_srvs.srv import Trigger

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.geometry.analysis import example_cloud
from geoseg_ros.results import LabelSpace
from geoseg_ros.ros.message_types import LearnAdd, LearnStart
from geoseg_ros.ros.teacher import Teacher
from geoseg_ros.runtime import teaching
from support.fake_learn_job import write_pack
from support.fake_pipeline import FakePipeline
from support.live_node import LiveNode
from support.paths import ROOT
from support.ros_cases import image_message, large_cloud_message, picture

pytestmark = [pytest.mark.dds, pytest.mark.skipif(LearnStart is None, reason="the messages of geoseg_ros are older than the package")]
CLICK = [0.2, 2.0, -0.7]


class Stems:
    """A pipeline factory: packs are the names of their files; one of the name ``unloadable`` cannot be opened."""

    @staticmethod
    def check(packs):
        return tuple(pack.rpartition("/")[2].removesuffix(".pack") for pack in packs)

    def __call__(self, parameters):
        if "unloadable" in self.check(parameters.packs):
            raise RuntimeError("out of memory")
        pipeline = FakePipeline()
        pipeline.labels = LabelSpace(self.check(parameters.packs))
        pipeline.pack_versions = ["1"] * len(parameters.packs)
        return pipeline


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder, patch = tmp_path_factory.mktemp("learnt"), pytest.MonkeyPatch()
    patch.setattr(teaching, "JOB", "support.fake_learn_job")
    patch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'test'}")
    node = LiveNode(Stems(), packs=["red"], pack_check=Stems.check, learn_folder=str(folder), status_period=0.1)
    node.folder = folder
    yield node
    node.close()
    patch.undo()


@pytest.fixture
def node(one):
    yield one
    ask(one, "cancel")
    assert one.set_one("packs", ["red"])[0]
    one.wait(lambda: one.node.worker.pipeline.labels.names == ("red",) and not one.node.diagnostics.doing)
    assert one.node.inputs.remember is None


def start(node, name):
    return node.call(LearnStart, "learn/start", LearnStart.Request(name=name))


def ask(node, what):
    return node.call(Trigger, f"learn/{what}", Trigger.Request())


def add(node, positive=True, **what):
    return node.call(LearnAdd, "learn/add", LearnAdd.Request(positive=positive, **what))


def told(node):
    status = next(s for s in node.node.diagnostics.report().status if s.name == "coseg_node: learn")
    return status.message, {v.key: v.value for v in status.values}


def send(node):
    """A cloud and a picture, remembered by the node."""
    cloud = example_cloud()
    node.send_and_wait("points", large_cloud_message(cloud.xyz, cloud.rgb), "cloud")
    node.send_and_wait("image", image_message(picture(), "rgb8"), "image")


def ended(node):
    node.wait(lambda: told(node)[1]["state"] in ("idle", "learning"))
    return told(node)


def test_nothing_is_kept_before_a_start(node):
    assert not any(s.name.endswith("learn") for s in node.node.diagnostics.report().status) and node.node._learn._learning is None
    for answer in (ask(node, "finish"), ask(node, "cancel"), add(node)):
        assert not answer.success and answer.message == "nothing is being learnt: call ~/learn/start first"


def test_from_a_click_to_a_loaded_pack_and_a_rejection(node):
    answer = start(node, "mug")
    assert answer.success and answer.message == f"learning 'mug'; ~/learn/finish makes {node.folder}/mug.pack"
    assert add(node).message == "no cloud and no image has come since the learning began"
    send(node)
    answer = add(node, click=CLICK)
    assert answer.success and "an object of" in answer.message and answer.message.endswith("1 clouds")
    assert answer.taken[0] < CLICK[0] < answer.taken[3]
    assert add(node, input="image", box=[0.0, 0, 16, 24]).message == "mug: 16 x 24 pixels; 1 images, 1 clouds"
    answer = ask(node, "finish")
    assert answer.success and answer.message.startswith(f"building {node.folder}/mug.pack from 1 images, 1 clouds")
    message, values = ended(node)
    assert message == f"{node.folder}/mug.pack: loaded, and looked for" and values["state"] == "idle"
    assert node.node.worker.pipeline.labels.names == ("red", "mug") and node.node.inputs.remember is None
    pipeline = node.node.worker.pipeline
    assert (
        start(node, "mug").message == f"going on with 1 images, 1 clouds of 'mug'; ~/learn/finish replaces the pack {node.folder}/mug.pack"
    )
    send(node)
    assert add(node, False).message.endswith("1 images, 1 clouds, 1 images without it, 1 clouds without it")
    assert ask(node, "finish").success
    ended(node)
    assert node.node.worker.pipeline.labels.names == ("red", "mug") and node.node.worker.pipeline is not pipeline
    folder = node.node._learn._learning._lesson._folder
    assert folder.stat().st_mode & 0o77 == 0 and ask(node, "cancel").success and not folder.exists()
    assert (node.folder / "mug.pack").exists(), "what was built stays"


def test_what_is_refused(node):
    assert start(node, "red").message == "name: 'red' is found already, by another pack; expected another name, or unload that pack"
    (node.folder / "notes.pack").write_text("my notes")
    assert "exists and is not a pack" in start(node, "notes").message
    for name in ("a/b", "a\tb", ""):
        assert not start(node, name).success
    assert start(node, "lid").success
    assert start(node, "lid").message == start(node, "cup").message == "'lid' is being learnt (learning): finish or cancel that first"
    assert ask(node, "finish").message == "no example of 'lid': nothing to learn from, add a positive example first"
    send(node)
    for what, reason in (
        ({"click": [1.0]}, "1 numbers do not fit a cloud or an image"),
        ({"click": [1.0, 2.0], "box": [0.0, 0, 1, 1]}, "expected one of them"),
        ({"click": [float("nan"), 2.0]}, "finite"),
        ({"input": "sound"}, "expected cloud, image or nothing, got 'sound'"),
        ({"input": "image", "click": [1.0, 2, 3]}, "3 numbers do not fit image"),
        ({"click": [1.0, 99.0, 3.0]}, "nothing stands there"),
        ({"input": "cloud", "click": [1.0, 2.0]}, "no rows and columns"),
        ({"click": [1e9, 2.0]}, "outside the picture"),
    ):
        answer = add(node, **what)
        assert not answer.success and reason in answer.message and "\n" not in answer.message
    request = LearnAdd.Request(positive=True, input="cloud")
    request.stamp.sec = 12345
    assert "no cloud of that time is kept" in node.call(LearnAdd, "learn/add", request).message
    assert ask(node, "finish").message.startswith("no example") and ask(node, "cancel").message == "'lid' is given up, with its examples"
    assert ask(node, "cancel").message == "nothing is being learnt"
    assert node.set_one("learn_folder", str(node.folder / "notes.pack" / "x"))[0]
    assert "lies below a file" in start(node, "lid").message and node.set_one("learn_folder", str(node.folder))[0]


def test_cancel_while_it_is_built(node):
    start(node, "slow")
    send(node)
    assert add(node, input="cloud", click=CLICK).success and ask(node, "finish").success
    node.wait(lambda: told(node)[0] == "building: clouds 1 of 2")
    assert ask(node, "finish").message == add(node).message == "nothing is being learnt (building): call ~/learn/start first"
    assert start(node, "cup").message == "'slow' is being learnt (building): finish or cancel that first"
    folder = node.node._learn._learning._lesson._folder
    assert ask(node, "cancel").success and not folder.exists() and told(node)[0] == "idle"
    assert not (node.folder / "slow.pack").exists() and start(node, "cup").success


@pytest.mark.parametrize(("name", "reason"), [("dies", "the build of the pack was killed by"), ("bad", "no proposal in any cloud")])
def test_a_build_that_fails_keeps_the_examples(node, name, reason):
    start(node, name)
    send(node)
    assert add(node, input="cloud", click=CLICK).success and ask(node, "finish").success
    message, values = ended(node)
    assert message.startswith(reason) and (values["state"], values["examples"]) == ("learning", "1 clouds")
    assert node.node.worker.pipeline.labels.names == ("red",) and not (node.folder / f"{name}.pack").exists()
    send(node)
    assert add(node, input="image").success


def test_a_pack_that_cannot_be_loaded_leaves_the_others(node):
    start(node, "unloadable")
    send(node)
    assert add(node, input="image").success and ask(node, "finish").success
    message, values = ended(node)
    assert "out of memory; the old ones stay" in message and values["state"] == "idle"
    assert node.node.worker.pipeline.labels.names == ("red",) and list(node.node.parameters.packs) == ["red"]


def test_a_teacher_clicks_on_pictures(node):
    teacher = Teacher("/coseg_node")
    try:
        assert teacher.start("mug") == (True, f"learning 'mug'; ~/learn/finish replaces the pack {node.folder}/mug.pack")
        for name in ("points", "image"):
            node.wait(lambda name=name: node.publisher(name).get_subscription_count() == 2)
        send(node)
        node.wait(lambda: len(teacher.state()["streams"]) == 2)
        image, stamp = teacher.picture("image")
        np.testing.assert_array_equal(image, picture())
        assert teacher.add("image", stamp, False, [], [0.0, 0, 16, 20])[1].startswith("not mug: 16 x 20 pixels")
        drawn, stamp = teacher.picture("cloud")
        shown = np.argwhere((drawn != 250).any(axis=2)).astype(float)
        answers = [teacher.add("cloud", stamp, True, [x, y], []) for y, x in shown[:: len(shown) // 30]]
        things = [taken for done, _, taken in answers if done]
        assert things and all(0.1 < taken[3] - taken[0] < 0.5 and -1.1 < taken[2] <= taken[5] < -0.6 for taken in things)
        for click, reason in (([0.0, 0.0], "there is no point"), ([-5.0, 1e8], "there is no point")):
            with pytest.raises(InputError, match=reason):
                teacher.add("cloud", stamp, True, click, [])
        with pytest.raises(InputError, match="expected a click"):
            teacher.add("cloud", stamp, True, [], [0.0, 0, 1, 1])
        assert drawn.shape == (480, 640, 3) and teacher.trigger("cancel")[0]
        node.wait(lambda: teacher.state()["message"] == "idle")
    finally:
        teacher.close()


def test_nothing_to_teach():
    with pytest.raises(InputError, match="is no name of a node"):
        Teacher("/coseg node")
    with pytest.raises(GeosegError, match="no node /nobody that can learn within 0.2 s"):
        Teacher("/nobody", 0.2)


def test_an_end_of_the_node_ends_the_child(live, tmp_path, monkeypatch):
    monkeypatch.setattr(teaching, "JOB", "support.fake_learn_job")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'test'}")
    write_pack(tmp_path / "slow.pack")
    node = live(Stems(), packs=["red"], pack_check=Stems.check, learn_folder=str(tmp_path))
    start(node, "slow")
    node.send_and_wait("image", image_message(np.zeros((20, 20, 3), np.uint8), "rgb8"), "image")
    assert add(node).success and ask(node, "finish").success
    build = node.node._learn._learning._build
    node.node.stop()
    assert not build.is_alive() and [p.name for p in tmp_path.iterdir()] == ["slow.pack"]
