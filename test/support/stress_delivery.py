"""Two processes: 640x480 images at 30 Hz and clouds of 100k points at 10 Hz through a node whose pipeline does nothing.

Prints what was sent, received, dropped, processed and answered, and the node's share of one CPU; its resident memory, open files and
threads at the start (after a warm-up) and at the end; the slope of its memory in the second half, and how the latency drifts from the
first to the last quarter. Exit code 0 if every processed message was answered, nothing was rejected, and nothing grew; else 1 and a line
for each object that is wrong.

  PYTHONPATH=test python -m support.stress_delivery --seconds 60 --reliable
  PYTHONPATH=test python -m support.stress_delivery --seconds 60 --profile config/fastdds_shm.xml
  PYTHONPATH=test python -m support.stress_delivery --seconds 1800 --profile config/fastdds_shm.xml --listeners 64     (a soak)
  PYTHONPATH=test python -m support.stress_delivery --seconds 60 --reliable --leak memory                              (must fail)
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from support.dds_environment import DDS_ENVIRONMENT
from support.spinning import spinning

WARM_UP = 3.0
WARM_STATES = 3  # states that are older
LEAST_SAMPLES = 6  # of memory, one per second
CLOUD_POINTS, IMAGE_SHAPE, CLOUD_HZ, IMAGE_HZ = 100_000, (480, 640), 10.0, 30.0
MOST_MEMORY = 8.0  # MiB that the node may grow by in the second half
MOST_FILES, MOST_THREADS = 2, 0  # that may be more at the end than after the warm-up
MOST_DRIFT, LEAST_DRIFT = 2.0, 5.0  # latency of the last quarter over that of the first; ms below which the difference does not count


class NullPipeline:
    """Answers no label anywhere, from arrays made once. ``leak``: what every image leaves behind: memory, files, threads or time."""

    backbone_name, backend, pack_versions = "none", "null", []

    def __init__(self, leak=""):
        import numpy as np

        from geoseg_ros.results import CloudResult, ImageResult, LabelSpace

        self.labels = LabelSpace(())
        zeros = np.zeros(CLOUD_POINTS, np.uint32)
        self._cloud = CloudResult(zeros, zeros, zeros.astype(np.float32), [], [])
        self._image = ImageResult(np.zeros(IMAGE_SHAPE, np.uint8), [])
        self._leak, self._leaked = leak, []

    def process_cloud(self, cloud):
        return self._cloud

    def process_image(self, image):
        if self._leak == "memory":
            self._leaked.append(b"\1" * 20_000)
        elif self._leak == "files":
            self._leaked.append(open(os.devnull))  # noqa: SIM115
        elif self._leak == "threads":
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        elif self._leak == "time":
            self._leaked.append(None)
            time.sleep(5e-5 * len(self._leaked))
        return self._image


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def count(pid: int, what: str) -> int:
    """Open files (fd) or threads (task) of a process."""
    return len(os.listdir(f"/proc/{pid}/{what}"))


def slope(samples: list[tuple[float, float]]) -> float:
    """Of a least-squares line through (seconds, value), per minute."""
    import numpy as np

    times, values = np.array(samples).T
    return float(60 * np.polyfit(times, values, 1)[0])


def faults(report: dict) -> list[str]:
    """What is wrong with a run, one line each."""
    found = []
    for name in ("cloud", "image"):
        row = report[name]
        if not row["answered"] == row["processed"] > 0:
            found.append(f"{name}: {row['answered']} answers for {row['processed']} processed messages")
        if row["rejected"]:
            found.append(f"{name}: {row['rejected']} rejected")
        early, late = row["latency_p50_first_quarter_ms"], row["latency_p50_last_quarter_ms"]
        if not late < max(MOST_DRIFT * early, early + LEAST_DRIFT):
            found.append(f"{name}: latency went from {early:.1f} to {late:.1f} ms")
    if report["resident_growth_mib"] > MOST_MEMORY:
        found.append(f"memory grew by {report['resident_growth_mib']:.1f} MiB in the second half")
    for what, most in (("files", MOST_FILES), ("threads", MOST_THREADS)):
        before, after = report[f"{what}_start"], report[f"{what}_end"]
        if after > before + most:
            found.append(f"{what}: {before} after the warm-up, {after} at the end")
    if report["node_exit_code"]:
        found.append(f"the node ended with code {report['node_exit_code']}")
    return found


def drive(seconds: float, pid: int, reliable: bool, listeners: int) -> dict:
    """Send, count the answers, and measure the node ``pid``."""
    import numpy as np
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image, PointCloud2

    from support.ros_cases import image_message, large_cloud_message

    rclpy.init()
    client = Node("stress")
    executor = SingleThreadedExecutor()
    executor.add_node(client)
    sensor = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT)
    answers = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
    rng = np.random.default_rng(0)
    cloud = large_cloud_message(rng.random((CLOUD_POINTS, 3)), rng.integers(0, 255, (CLOUD_POINTS, 3)))
    image = image_message(rng.integers(0, 255, (*IMAGE_SHAPE, 3)).astype(np.uint8), "rgb8")
    sent, answered, states = {"cloud": 0, "image": 0}, {"cloud": 0, "image": 0}, []

    def answer(name):
        answered[name] += 1

    def latencies(name, part):
        return [float(rows[f"coseg_node: {name}"]["latency_p50_ms"]) for rows in part]

    def state(message):
        rows = {s.name: {v.key: v.value for v in s.values} for s in message.status if s.name.startswith("coseg_node: ")}
        if rows:
            states.append(rows)

    client.create_subscription(PointCloud2, "/coseg_node/points_labeled", lambda _: answer("cloud"), answers)
    client.create_subscription(Image, "/coseg_node/mask", lambda _: answer("image"), answers)
    for _ in range(listeners - 1):
        client.create_subscription(Image, "/coseg_node/mask", lambda _: None, answers)
    client.create_subscription(DiagnosticArray, "/diagnostics", state, 10)
    to_cloud = client.create_publisher(PointCloud2, "/coseg_node/points", sensor)
    to_image = client.create_publisher(Image, "/coseg_node/image", sensor)

    with spinning(executor):
        end = time.monotonic() + 30
        while not (to_cloud.get_subscription_count() and to_image.get_subscription_count() and states):
            if time.monotonic() > end:
                raise SystemExit("the node did not come up")
            time.sleep(0.05)
        time.sleep(0.5)
        begin = time.monotonic()
        due = {"cloud": begin, "image": begin}
        jobs = {"cloud": (to_cloud, cloud, 1 / CLOUD_HZ), "image": (to_image, image, 1 / IMAGE_HZ)}
        measured, memory, sampled = None, [], 0.0
        while (now := time.monotonic()) < begin + seconds:
            if measured is None and now > begin + WARM_UP:
                measured = (now, cpu_seconds(pid), resident_mib(pid), count(pid, "fd"), count(pid, "task"))
            if measured and now > sampled + 1.0:
                sampled = now
                memory.append((now, resident_mib(pid)))
            name = min(due, key=due.get)
            if due[name] > now:
                time.sleep(min(due[name] - now, 0.05))
                continue
            publisher, message, period = jobs[name]
            message.header.stamp = client.get_clock().now().to_msg()
            publisher.publish(message)
            sent[name] += 1
            due[name] += period
        now = time.monotonic()
        late = memory[len(memory) // 2 :]
        report = {
            "seconds": round(now - begin, 1),
            "cpu_share": round((cpu_seconds(pid) - measured[1]) / (now - measured[0]), 3),
            "resident_start_mib": round(measured[2], 1),
            "resident_end_mib": round(resident_mib(pid), 1),
            "resident_slope_mib_per_min": round(slope(late), 3),
            "resident_growth_mib": round(slope(late) / 60 * (late[-1][0] - late[0][0]), 3),
            "files_start": measured[3],
            "files_end": count(pid, "fd"),
            "threads_start": measured[4],
            "threads_end": count(pid, "task"),
        }
        time.sleep(2.5)  # the last answers and one more state
    for name in ("cloud", "image"):
        row = states[-1][f"coseg_node: {name}"]
        counts = {key: int(row[key]) for key in ("lost", "received", "dropped", "rejected", "processed")}
        latency = {key: float(row[key]) for key in ("latency_p50_ms", "latency_p95_ms")}
        quarter = len(states) // 4 or 1
        early, late = (sorted(latencies(name, part))[len(part) // 2] for part in (states[WARM_STATES:][:quarter], states[-quarter:]))
        drift = {"latency_p50_first_quarter_ms": early, "latency_p50_last_quarter_ms": late}
        report[name] = {"sent": sent[name], **counts, "answered": answered[name], **latency, **drift}
    executor.shutdown()
    client.destroy_node()
    rclpy.try_shutdown()
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--reliable", action="store_true", help="reliable inputs instead of best effort")
    parser.add_argument("--profile", type=Path, help="Fast DDS profile for both processes")
    parser.add_argument("--listeners", type=int, default=1, metavar="N", help="subscribers of the mask (default 1)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--leak", choices=("memory", "files", "threads", "time"), help="let the node leak, to see that it is noticed")
    parser.add_argument("--as-node", action="store_true", help=argparse.SUPPRESS)
    options, ros = parser.parse_known_args()
    if options.seconds < WARM_UP + LEAST_SAMPLES:
        parser.error(f"--seconds: expected at least {WARM_UP + LEAST_SAMPLES:g}")
    if options.as_node:
        from geoseg_ros.ros.coseg_node import main as node_main

        return node_main(ros, lambda parameters: NullPipeline(options.leak))
    environment = {**os.environ, **DDS_ENVIRONMENT, "ROS_PYTHON_CHECK_FIELDS": "0"}
    if options.profile:
        profile = {"FASTDDS_DEFAULT_PROFILES_FILE": str(options.profile.resolve(strict=True))}
        environment.update(profile)
        os.environ.update(profile)
    leak = ["--leak", options.leak] if options.leak else []
    arguments = [sys.executable, __file__, "--as-node", *leak, "--ros-args", "-p", "status_period:=1.0"]
    if options.reliable:
        for topic in ("points", "image"):
            arguments += ["-p", f"qos_overrides./coseg_node/{topic}.subscription.reliability:=reliable"]
    node = subprocess.Popen(arguments, env=environment)
    try:
        report = drive(options.seconds, node.pid, options.reliable, options.listeners)
        node.send_signal(signal.SIGINT)
        report["node_exit_code"] = node.wait(30)
    finally:
        if node.poll() is None:
            node.kill()
            node.wait()
    found = faults(report)
    if options.json:
        print(json.dumps({**report, "faults": found}))
    else:
        for key, value in report.items():
            text = ", ".join(f"{name} {number}" for name, number in value.items()) if isinstance(value, dict) else value
            print(f"{key:<28}{text}")
    for line in found:
        print(f"wrong: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
