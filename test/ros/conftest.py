"""Sets the DDS environment before any test module here imports rclpy or a message."""

import pytest

from support import dds_environment  # noqa: F401


@pytest.fixture
def live():
    """Starts live nodes and ends them."""
    from support.fake_pipeline import FakePipeline  # both need ROS 2; the tests that use them are skipped without
    from support.live_node import LiveNode

    started = []

    def start(pipeline=None, **options):
        started.append(LiveNode(pipeline or FakePipeline(), **options))
        return started[-1]

    yield start
    for entry in started:
        entry.close()
