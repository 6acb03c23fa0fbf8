"""One server of command lines for all tests of this folder, and one undisturbed run to compare with."""

from __future__ import annotations

import pytest
import tiny_plugin
from store_forks import TINY, Server

RUN = ("run", "-p", "tiny", "-q")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    files = tiny_plugin.shared_files(tmp_path_factory)
    found = Server(TINY.format(files=str(files)), tmp_path_factory.mktemp("logs"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def undisturbed(server, tmp_path_factory):
    """Folder of a run of two methods on 12 items that nothing happened to; read only."""
    root = tmp_path_factory.mktemp("undisturbed")
    code, _, err = server.call(*RUN, "-o", "run", folder=root)
    assert (code, err) == (0, "")
    return root / "run"
