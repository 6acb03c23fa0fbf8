"""Shared by all tests: the helpers' folder on the path, two threads, no network for the hub's client."""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent))
