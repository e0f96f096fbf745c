"""A live node and a client of it in this process, talking over DDS."""

import gc
import threading
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from geoseg_ros.ros.coseg_node import CosegNode
from geoseg_ros.runtime.pipeline import check_packs

RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
ROSOUT = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)  # not what an earlier node has said
OUTPUTS = {"points_labeled": PointCloud2, "points_obstacles": PointCloud2, "mask": Image, "overlay": Image, "markers": MarkerArray}
INPUTS = {
    "points": PointCloud2,
    "depth": Image,
    "camera_info": CameraInfo,
    "color": Image,
    "image": Image,
    "image/compressed": CompressedImage,
}


class LiveNode:
    """``pipeline``: one, or what makes one from the parameters.

    ``received[name]`` lists the messages of an output, ``lines`` the warnings and errors that the node logged."""

    def __init__(self, pipeline, listen=("points_labeled", "mask"), pack_check=check_packs, stop=None, **parameters):
        # the handles of an earlier node that something still held when it was closed would take the log of this one away with them
        gc.collect()
        self.context = Context()
        rclpy.init(context=self.context)
        # one each, as in two processes
        self.executor, self._client_executor = (SingleThreadedExecutor(context=self.context) for _ in range(2))
        self._spinning = True
        self._spinners = [threading.Thread(target=self._spin, args=(e,)) for e in (self.executor, self._client_executor)]
        self.node = None
        try:
            parameters = {"input_timeout": 3600.0, **parameters}  # no line about silent inputs unless a test wants it
            overrides = [Parameter(name, value=value) for name, value in parameters.items()]
            # the messages of a test must arrive; the defaults are for live sensors
            listed = dict.fromkeys(parameters.get("point_topics", ()), PointCloud2)
            listed |= dict.fromkeys((*parameters.get("depth_topics", ()), *parameters.get("image_topics", ())), Image)
            for topic in (*(f"/coseg_node/{name}" for name in self._inputs(**parameters)), *listed):
                overrides.append(Parameter(f"qos_overrides.{topic}.subscription.reliability", value="reliable"))
            factory = pipeline if callable(pipeline) else lambda _: pipeline
            self.node = CosegNode(factory, pack_check, stop, context=self.context, parameter_overrides=overrides)
            self.client = Node("client", context=self.context)
            self.received, self._clients = {}, {}
            for name in listen:
                self.listen(name)
            self.lines, self.labels, self.diagnostics = [], [], []
            self._hears = False
            self.client.create_subscription(Log, "/rosout", self._log, ROSOUT)
            self.client.create_subscription(String, "/coseg_node/label_info", lambda m: self.labels.append(m.data), LATCHED)
            self.client.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)
            kept = {name for name in INPUTS if f"qos_overrides./coseg_node/{name}.subscription.durability" in parameters}
            self._publishers = {
                name: self.client.create_publisher(
                    kind, name if name in listed else f"/coseg_node/{name}", LATCHED if name in kept else RELIABLE
                )
                for name, kind in (INPUTS | listed).items()
            }
            self.executor.add_node(self.node)
            self._client_executor.add_node(self.client)
            self._spinners[1].start()
            self.wait(self._probe)  # or its first lines would be missed
            self._spinners[0].start()
            if self.node.parameters.autostart:
                self.wait(lambda: self.node.worker.active or self.node.failure)
            for publisher in self._publishers.values():
                if self.node.count_subscribers(publisher.topic_name):
                    self.wait(lambda p=publisher: p.get_subscription_count() > 0)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _inputs(cloud_source="points", image_transport="raw", point_topics=(), depth_topics=(), image_topics=(), **_):
        clouds = {"points": ["points"], "depth": ["depth", "camera_info", "color"], "none": []}[cloud_source]
        clouds = [] if point_topics or depth_topics else clouds
        image_transport = "none" if image_topics else image_transport
        return clouds + {"raw": ["image"], "compressed": ["image/compressed"], "none": []}[image_transport]

    def _spin(self, executor):
        while self._spinning:
            try:
                executor.spin_once(timeout_sec=0.1)
            except InvalidHandle:  # a test destroys a subscription while rclpy gathers what to wait for
                if executor is not self._client_executor:
                    raise

    def _probe(self):
        self.node.get_logger().info("the test listens")
        return self._hears

    def _log(self, message):
        self._hears |= message.name == "coseg_node"
        if message.name == "coseg_node" and message.level >= 30:
            self.lines.append(message.msg)

    def listen(self, name, kind=None):
        store = self.received.setdefault(name, [])
        subscription = self.client.create_subscription(
            kind or OUTPUTS[name.rpartition("/")[2]], f"/coseg_node/{name}", store.append, RELIABLE
        )
        topic = subscription.topic_name
        self.wait(lambda: any(p.topic_name == topic and p.get_subscription_count() for p in self.node.publishers))
        return subscription

    def send(self, name, message):
        self._publishers[name].publish(message)

    def publisher(self, name):
        return self._publishers[name]

    def ask(self, kind, name, request):
        """Call a service of the node; returns the future."""
        if name not in self._clients:
            self._clients[name] = self.client.create_client(kind, f"/coseg_node/{name}")
        assert self._clients[name].wait_for_service(10.0)
        return self._clients[name].call_async(request)

    def call(self, kind, name, request):
        """Call a service of the node and wait for the answer."""
        future = self.ask(kind, name, request)
        self.wait(future.done)
        return future.result()

    def set_one(self, name, value):
        """As `ros2 param set` does; returns whether it was taken, and the reason if not."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        result = self.call(SetParameters, "set_parameters", request).results[0]
        return result.successful, result.reason

    def counts(self, stream):
        return self.node.mailbox.counts()[stream]

    def send_and_wait(self, name, message, stream):
        """Send and wait until the worker has finished with it."""
        before = self.counts(stream)
        self.send(name, message)
        self.wait(lambda: self.counts(stream).processed + self.counts(stream).rejected == before.processed + before.rejected + 1)

    @staticmethod
    def wait(condition, seconds=10.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "nothing came in time"
            time.sleep(0.005)

    def close(self):
        if self.context.ok():
            self._close()

    def _close(self):
        if self.node is not None:
            self.node.stop()
        self._spinning = False
        for spinner in self._spinners:
            if spinner.is_alive():
                spinner.join()
        self.executor.shutdown()
        self._client_executor.shutdown()
        if self.node is not None:
            self.node.destroy_node()
            self.client.destroy_node()
            # the handles of a managed node live as long as its object
            self.node = self.client = None
            gc.collect()
        rclpy.try_shutdown(context=self.context)
