"""The kit's fixtures, as an author's conftest.py would have them by `pytest_plugins`, which only the topmost one may say."""

from scottbench.testing.fixtures import *  # noqa: F403
