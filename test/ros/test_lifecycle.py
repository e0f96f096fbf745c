"""The node's states: by itself, by a manager over its services, and what is left when a transition fails."""

import threading
import time
import weakref

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.lifecycle.node import LifecycleNodeMixin
from rclpy.parameter import Parameter

from geoseg_ros.errors import InputError
from geoseg_ros.ros.coseg_node import CosegNode
from support.fake_pipeline import FakePipeline
from support.live_node import LiveNode
from support.ros_cases import cloud_message, points

pytestmark = pytest.mark.dds


def change(node: LiveNode, label: str) -> bool:
    """Ask for a transition as a manager does; True if it succeeded."""
    request = ChangeState.Request(transition=Transition(label=label))
    return node.call(ChangeState, "change_state", request).success


def state(node: LiveNode) -> str:
    return node.call(GetState, "get_state", GetState.Request()).current_state.label


def wait_told(node: LiveNode, message: str, level: bytes) -> None:
    """Wait until the diagnostics say this of the pipeline."""

    def told() -> bool:
        statuses = node.diagnostics[-1].status if node.diagnostics else []
        return any((s.name, s.message, s.level) == ("coseg_node: pipeline", message, level) for s in statuses)

    node.wait(told)


def test_a_manager_takes_it_through_all_states(live):
    made = []

    def factory(parameters):
        pipeline = FakePipeline()
        made.append(weakref.ref(pipeline))
        return pipeline

    node = live(factory, autostart=False, status_period=0.1)
    assert state(node) == "unconfigured" and made == [] and not node.node.count_subscribers("/coseg_node/points")
    assert not change(node, "activate") and state(node) == "unconfigured"
    assert change(node, "configure") and state(node) == "inactive" and len(made) == 1
    node.wait(lambda: node.labels)
    assert not node.node.count_subscribers("/coseg_node/points"), "only an active node listens"
    assert change(node, "activate") and state(node) == "active"

    def answered():
        node.wait(lambda: node.publisher("points").get_subscription_count() > 0)
        node.received["points_labeled"].clear()
        node.send("points", cloud_message(points()))
        node.wait(lambda: node.received["points_labeled"])

    answered()
    wait_told(node, "running", b"\0")
    assert change(node, "deactivate") and state(node) == "inactive"
    wait_told(node, "inactive", b"\0")
    node.wait(lambda: node.publisher("points").get_subscription_count() == 0)
    assert made[0]() is not None, "packs stay open"
    assert change(node, "activate")
    answered()
    assert change(node, "deactivate") and change(node, "cleanup") and state(node) == "unconfigured"
    assert made[0]() is None, "cleanup frees the pipeline"
    assert change(node, "configure") and change(node, "activate") and len(made) == 2
    answered()
    assert change(node, "shutdown") and state(node) == "finalized" and made[1]() is None
    assert node.node.worker.is_alive() and node.lines == [line for line in node.lines if "Unable to start transition" in line]


def test_deactivate_drops_work(live):
    pipeline = FakePipeline(delay=0.4)
    node = live(pipeline)
    node.send("points", cloud_message(points()))
    node.wait(lambda: pipeline.calls["cloud"] == 1)
    node.send("points", cloud_message(points()))
    node.wait(lambda: node.counts("cloud").received == 2)
    assert change(node, "deactivate")
    node.wait(lambda: node.counts("cloud").processed == 1)
    assert node.counts("cloud").dropped == 1
    time.sleep(0.2)
    assert pipeline.calls["cloud"] == 1 and node.received["points_labeled"] == []


def test_a_failed_configure_leaves_it_unconfigured_and_may_be_repeated(live):
    def factory(parameters):
        if parameters.packs == ("bad.pack",):
            raise InputError("bad.pack: not a concept pack")
        return FakePipeline()

    node = live(factory, autostart=False, packs=["bad.pack"], status_period=0.1)
    assert not change(node, "configure") and state(node) == "unconfigured"
    node.wait(lambda: node.lines)
    assert node.lines == ["bad.pack: not a concept pack"]
    wait_told(node, "bad.pack: not a concept pack", b"\x02")
    assert node.node.set_parameters([Parameter("packs", value=["good.pack"])])[0].successful
    assert change(node, "configure") and change(node, "activate") and state(node) == "active"
    wait_told(node, "running", b"\0")


def test_an_unknown_label_fails_the_configure_and_keeps_nothing(live):
    node = live(autostart=False, wanted_labels=["tall"])
    assert not change(node, "configure") and node.node.worker.pipeline is None
    node.wait(lambda: node.lines)
    assert node.lines == ["parameter wanted_labels: no concept tall, expected some of red, high"]


def test_an_activate_that_fails_leaves_it_inactive(live):
    node = live(autostart=False)
    override = node.node._parameter_overrides["qos_overrides./coseg_node/points.subscription.reliability"]
    node.node._parameter_overrides[override.name] = Parameter(override.name, value="maybe")
    assert change(node, "configure") and not change(node, "activate") and state(node) == "inactive"
    node.wait(lambda: node.lines)
    assert len(node.lines) == 1 and "maybe" in node.lines[0]
    assert not node.node.worker.active and not list(node.node.inputs._subscriptions)
    assert change(node, "cleanup") and state(node) == "unconfigured"


def test_a_misspelt_quality_of_service_fails_the_start(live):
    node = live(**{"qos_overrides./coseg_node/image.subscription.reliabilty": "reliable"})
    assert isinstance(node.node.failure, InputError) and "reliabilty: unknown" in str(node.node.failure)
    assert not node.node.worker.active


def test_the_node_tells_that_it_is_opening(live):
    go = threading.Event()

    def factory(parameters):
        assert go.wait(10)
        return FakePipeline()

    node = live(factory, autostart=False, status_period=0.1)
    asked = node.ask(ChangeState, "change_state", ChangeState.Request(transition=Transition(label="configure")))
    wait_told(node, "opening packs", b"\x01")
    assert not asked.done()
    go.set()
    node.wait(asked.done)
    assert asked.result().success


def test_a_stop_ends_a_configure_under_way(live):
    stop, go = threading.Event(), threading.Event()

    def factory(parameters):
        go.wait(10)
        return FakePipeline()

    node = live(factory, autostart=False, stop=stop)
    asked = node.ask(ChangeState, "change_state", ChangeState.Request(transition=Transition(label="configure")))
    node.wait(lambda: node.node._opening is not None)
    stop.set()
    node.wait(asked.done, 2.0)
    assert not asked.result().success and node.lines == []
    go.set()


@pytest.mark.parametrize("distribution", ["this", "older"])
def test_a_transition_that_the_state_does_not_have_is_refused(live, monkeypatch, distribution):
    """nav2's manager asks by number, and may be set to start a node that has come up by itself."""
    node = live()
    if distribution == "older":  # rclpy of Humble and Jazzy does not catch the error

        def change_state(self, number):
            self._state_machine.trigger_transition_by_id(number, True)
            raise AssertionError("the transition exists")

        monkeypatch.setattr(LifecycleNodeMixin, "_LifecycleNodeMixin__change_state", change_state)
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    assert not node.call(ChangeState, "change_state", request).success
    assert state(node) == "active"
    node.wait(lambda: node.lines)
    assert len(node.lines) == 1 and "transition 1 " in node.lines[0]
    node.send("points", cloud_message(points()))
    node.wait(lambda: node.received["points_labeled"])


def test_an_error_in_a_transition_is_cleaned_up(live, monkeypatch):
    def broken(self, state):
        raise KeyError("unheard of")

    monkeypatch.setattr(CosegNode, "on_deactivate", broken)
    node = live()
    assert not change(node, "deactivate") and state(node) == "unconfigured"
    assert node.node.worker.pipeline is None and not node.node.worker.active
    assert change(node, "configure") and change(node, "activate")


def test_tracks_number_the_objects_and_start_anew_when_time_goes_back(live):
    messages = pytest.importorskip("geoseg_ros.msg", reason="the package is installed without its messages")
    node = live(listen=())
    node.listen("objects", messages.CosegObjectArray)
    for i in range(3):
        node.send("points", cloud_message(points(), stamp=(10 + i, 0)))
        node.wait(lambda i=i: len(node.received["objects"]) == i + 1)
    assert [array.objects[0].track_id for array in node.received["objects"]] == [0, 1, 1]
    node.send("points", cloud_message(points(), stamp=(1, 0)))  # the recording starts again
    node.wait(lambda: len(node.received["objects"]) == 4 and node.lines)
    assert node.received["objects"][3].objects[0].track_id == 0
    assert node.lines == ["time went backwards or the frame changed: tracks start anew"]
    node.send("points", cloud_message(points(), stamp=(1, 100)))
    node.wait(lambda: len(node.received["objects"]) == 5)
    assert node.received["objects"][4].objects[0].track_id == 2


def test_only_a_node_that_cannot_come_up_by_itself_gives_up(live):
    def factory(parameters):
        if parameters.packs == ("bad.pack",):
            raise InputError("bad.pack: not a concept pack")
        return FakePipeline()

    bad = live(factory, packs=["bad.pack"])
    bad.wait(lambda: bad.node.stillborn)
    bad.close()
    node = live(factory)
    assert change(node, "deactivate") and change(node, "cleanup")
    assert node.node.set_parameters([Parameter("packs", value=["bad.pack"])])[0].successful
    assert not change(node, "configure") and isinstance(node.node.failure, InputError) and not node.node.stillborn
