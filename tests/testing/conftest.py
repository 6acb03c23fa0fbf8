"""The kit's fixtures, as an author's conftest.py would have them by `pytest_plugins`, which only the topmost one may say."""

from scottbench.testing import scottbench_cells as scottbench_cells
from scottbench.testing import scottbench_teacher as scottbench_teacher
