"""One node, two LiDARs and three cameras: what became of every message, and the share of the time that each stream got.

Makes a recording for it from a simulated walk (``geoseg record-demo --sensor lidar``): each scan is cut into a front and a rear half that
overlap by a metre, the rear one in the frame of a sensor that looks backwards; each camera shows the pictures of the walk from another one
on. tf2_ros, which is not among ROS 2's wheels, is replaced by its two fixed transforms. Exit code 0 if every message that came was
processed, replaced by a newer one, or rejected.

  PYTHONPATH=test python -m support.several_sensors --walk demo/recording --packs stool lamp
  PYTHONPATH=test python -m support.several_sensors --walk demo/recording --seconds 5 --quick          (a pipeline that does nothing much)
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

import yaml

from support.dds_environment import DDS_ENVIRONMENT
from support.paths import ROOT
from support.spinning import spinning

CLOUDS, IMAGES = ["/front/points", "/rear/points"], ["/left/image", "/ahead/image", "/right/image"]
OVERLAP = 0.5  # metres behind the middle that each half still sees
STREAMS = [topic[1:].replace("/", "_") for topic in (*CLOUDS, *IMAGES)]
COUNTS = ("received", "processed", "dropped", "rejected")


def write_recording(walk: Path, out: Path, seconds: float) -> None:
    """The recording of the five sensors."""
    import numpy as np

    from geoseg_ros.geometry.cloud import Cloud
    from geoseg_ros.io import messages as codec
    from geoseg_ros.io.recordings import Recording, RecordingWriter

    with Recording(walk) as source, RecordingWriter(out) as writer:
        raws = list(source.messages(["/lidar/points", "/camera/image_raw"]))
        end = raws[0].stamp_ns + seconds * 1e9
        pictures = [codec.image_from_message(source.decode(raw), raw.topic) for raw in raws if raw.topic == "/camera/image_raw"]
        shown = 0
        for raw in raws:
            if raw.stamp_ns > end:
                break
            if raw.topic == "/camera/image_raw":
                for place, topic in enumerate(IMAGES):
                    writer.write_image(topic, raw.stamp_ns, topic[1:-6], pictures[(shown + 20 * place) % len(pictures)])
                shown += 1
                continue
            cloud = codec.cloud_from_message(source.decode(raw), raw.topic)
            front, rear = cloud.xyz[:, 0] > -OVERLAP, cloud.xyz[:, 0] < OVERLAP
            for topic, use, turn in zip(CLOUDS, (front, rear), ([1, 1, 1], [-1, -1, 1]), strict=True):
                rgb = None if cloud.rgb is None else cloud.rgb[use]
                writer.write_cloud(topic, raw.stamp_ns, topic[1:-7], Cloud(cloud.xyz[use] * np.array(turn, np.float32), rgb))


def fixed_tf() -> types.ModuleType:
    """What the node uses of tf2_ros, for two sensors that are fixed on the robot."""
    from geometry_msgs.msg import TransformStamped

    class Buffer:
        def lookup_transform(self, target, source, stamp):
            if (target, source) not in (("base_link", "front"), ("base_link", "rear")):
                raise module.TransformException(f"{source} is not known")
            found = TransformStamped()
            turned = source == "rear"
            found.transform.rotation.z, found.transform.rotation.w = float(turned), float(not turned)
            return found

        def clear(self):
            pass

    module = types.ModuleType("tf2_ros")
    module.TransformException, module.Buffer = type("TransformException", (Exception,), {}), Buffer
    module.TransformListener = lambda buffer, node: None
    return module


def listen(node: subprocess.Popen, player: subprocess.Popen) -> dict:
    """Count what comes of what is played."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image, PointCloud2

    from geoseg_ros.msg import CosegObjectArray

    rclpy.init()
    client, executor = rclpy.create_node("several_sensors"), SingleThreadedExecutor()
    executor.add_node(client)
    outputs = {f"{name}/points_labeled": PointCloud2 for name in STREAMS[:2]} | {f"{name}/mask": Image for name in STREAMS[2:]}
    outputs |= {"points_obstacles": PointCloud2, "objects": CosegObjectArray}
    came, newest, state = dict.fromkeys(outputs, 0), {}, {}

    def take(name, message):
        came[name] += 1
        newest[name] = message

    def hear(message):
        rows = {s.name.partition(": ")[2]: {v.key: v.value for v in s.values} for s in message.status if s.name.startswith("coseg_node: ")}
        state.update(rows)

    reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
    for name, kind in outputs.items():
        client.create_subscription(kind, f"/coseg_node/{name}", lambda message, n=name: take(n, message), reliable)
    client.create_subscription(DiagnosticArray, "/diagnostics", hear, 10)

    with spinning(executor):
        end = time.monotonic() + 300
        while state.get("pipeline", {}).get("state") != "active":
            if node.poll() is not None or time.monotonic() > end:
                raise SystemExit("the node did not come up")
            time.sleep(0.1)
        played = json.loads(player.communicate()[0])["published"]
        end = time.monotonic() + 30
        while time.monotonic() < end:  # the last ones are still worked on
            rows = [state[name] for name in STREAMS]
            if all(int(row["received"]) == sum(int(row[key]) for key in COUNTS[1:]) for row in rows):
                break
            time.sleep(0.2)
        time.sleep(1.5)
    tracks = sorted({entry.track_id for entry in newest["objects"].objects}) if "objects" in newest else []
    executor.shutdown()
    rclpy.try_shutdown()
    return {
        "played": played,
        "came": came,
        "last_tracks": tracks,
        "streams": {n: state[n] for n in STREAMS},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walk", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--packs", nargs="+", default=["stool", "lamp"])
    parser.add_argument("--quick", action="store_true", help="a pipeline that only looks at heights and red pixels")
    parser.add_argument("--as-node", action="store_true", help=argparse.SUPPRESS)
    options, ros = parser.parse_known_args()
    if options.as_node:
        sys.modules["tf2_ros"] = fixed_tf()
        from geoseg_ros.ros.coseg_node import main as node_main
        from support.fake_pipeline import factory

        return node_main(ros, factory if options.quick else None)
    os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config" / "fastdds_shm.xml")  # as the launch file does
    environment = {**os.environ, **DDS_ENVIRONMENT, "ROS_PYTHON_CHECK_FIELDS": "0"}
    with tempfile.TemporaryDirectory() as folder:
        bag, file = Path(folder) / "recording", Path(folder) / "node.yaml"
        write_recording(options.walk, bag, options.seconds)
        values = {
            "packs": [] if options.quick else options.packs,
            "point_topics": CLOUDS,
            "image_topics": IMAGES,
            "target_frame": "base_link",
        }
        values = {name: value for name, value in values.items() if value}
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
        quick = ["--quick"] if options.quick else []
        arguments = [sys.executable, __file__, "--as-node", *quick, "--ros-args", "--params-file", str(file), *ros]
        # before the node, which then knows from the start that the topics are reliable
        play = [sys.executable, "-m", "geoseg_ros.cli", "play", str(bag), "--wait", "1", "--wait-seconds", "300", "--json"]
        player = subprocess.Popen(play, env=environment, stdout=subprocess.PIPE, text=True)
        node = subprocess.Popen(arguments, env=environment)
        try:
            report = listen(node, player)
            node.send_signal(signal.SIGINT)
            report["node_exit_code"] = node.wait(30)
        finally:
            for process in (node, player):
                if process.poll() is None:
                    process.kill()
                    process.wait()
    print(
        "| stream | sent | lost (DDS) | received | processed | replaced | rejected | share of the time | latency p50, p95, ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    lost = report["node_exit_code"] != 0
    for name, topic in zip(STREAMS, (*CLOUDS, *IMAGES), strict=True):
        row = report["streams"][name]
        numbers = [int(row[key]) for key in COUNTS]
        lost |= numbers[0] != sum(numbers[1:]) or not numbers[1]
        figures = [report["played"][topic], row["lost"], *numbers, f"{100 * float(row['share']):.0f} %"]
        print("|", " | ".join(map(str, [name, *figures, f"{float(row['latency_p50_ms']):.0f}, {float(row['latency_p95_ms']):.0f}"])), "|")
    print(json.dumps({key: report[key] for key in ("came", "last_tracks", "node_exit_code")}))
    return int(lost)


if __name__ == "__main__":
    sys.exit(main())
