"""Encoded training splits of these tests go to a folder of their own, not to the user's cache."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SCOTTBENCH_CACHE", str(folder))
        yield folder
