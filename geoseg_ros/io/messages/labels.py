"""The label space as std_msgs/String."""

from __future__ import annotations

import json

from geoseg_ros.results import LabelSpace


def label_info(labels: LabelSpace) -> str:
    """JSON of ~/label_info: a list of {"id", "name", "color": [r, g, b]}; id 0 is "none"."""
    palette = labels.palette().tolist()
    return json.dumps([{"id": i, "name": name, "color": palette[i]} for i, name in enumerate(("none", *labels.names))])
