"""Shared by all tests: the helpers' folder on the path, two threads, no network for the hub's client."""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "2")  # torch reads it when it is first imported; processes that a test starts inherit it
sys.path.insert(0, str(Path(__file__).parent))
