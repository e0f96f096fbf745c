#!/bin/bash
# Runs a command in the workspace, with the environment that the package was built in.
set -e
source "/opt/ros/$ROS_DISTRO/setup.bash"
source /opt/geoseg/venv/bin/activate
source /opt/geoseg/install/setup.bash
exec "$@"
