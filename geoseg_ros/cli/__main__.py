"""``python -m geoseg_ros.cli``: the ``geoseg`` command."""

import sys

from geoseg_ros.cli.main import main

sys.exit(main())
