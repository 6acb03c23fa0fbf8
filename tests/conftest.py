"""Shared by all tests: the helpers' folder on the path, two threads, no network, the tiny plug-in's files."""

import os
import socket
import sys
from collections import Counter
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "2")  # torch reads it when it is first imported; processes that a test starts inherit it
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """The whole suite passes without a network: a connection to another machine is an error, whoever tries it."""
    connect, lookup = socket.socket.connect, socket.getaddrinfo
    local = {"localhost", "127.0.0.1", "::1", "", None, socket.gethostname()}

    def guarded(self, address):
        if isinstance(address, tuple) and address[0] not in local:
            raise AssertionError(f"a test opened a connection to {address[0]}")
        return connect(self, address)

    def guarded_lookup(host, *arguments, **words):
        if (host.decode() if isinstance(host, bytes) else host) not in local:
            raise AssertionError(f"a test looked up {host}")
        return lookup(host, *arguments, **words)

    socket.socket.connect, socket.getaddrinfo = guarded, guarded_lookup
    yield
    socket.socket.connect, socket.getaddrinfo = connect, lookup


LONG = (
    "calibration/", "gpu/", "test_documents.py", "test_guide.py", "test_import.py", "test_kit.py", "test_prediction.py", "test_preset.py",
    "test_shipped_students.py", "test_students.py", "test_training.py",
)  # fmt: skip
"""Files of few tests that take half a minute: started last, one of them would keep one worker busy while the other has nothing to do."""


def pytest_collection_modifyitems(config, items):
    """Several workers begin with the long files, then take those of the most tests (tox: --no-loadscope-reorder, an order of its own)."""
    if hasattr(config, "workerinput"):
        counts = Counter(item.path for item in items)
        items.sort(key=lambda item: (not any(part in item.nodeid for part in LONG), -counts[item.path]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """How far a student follows its guidance is measured at every export, by some 60 passes of the teacher: half of a tiny training.
    Tests take two steps of its ODE in place of ten; test_student_copies.py holds the measure itself."""
    module = sys.modules.get("scottbench.training.distillation")
    if module is not None:
        module.SLOPE_STEPS = 2


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Random pipeline, evaluator and student with their preset, made once a session; read only."""
    import tiny_plugin

    return tiny_plugin.shared_files(tmp_path_factory)


@pytest.fixture(scope="module")
def plugins(files):
    """The tiny plug-in over `files`."""
    import tiny_plugin

    return tiny_plugin.tiny_plugins(files)
