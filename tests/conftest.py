"""Shared by all tests: the helpers' folder on the path, two threads, no network, the tiny plug-in's files."""

import os
import socket
import sys
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
