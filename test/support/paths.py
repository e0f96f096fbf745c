"""Where the tests find the checkout and, where it is there, the real data beside it."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
PYTHONPATH = os.pathsep.join([str(ROOT), str(ROOT / "test")])
"""For processes that tests start: the checkout, and the helpers as ``support``."""
