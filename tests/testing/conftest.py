"""The kit's fixtures, as an author's conftest.py would have them by `pytest_plugins`, which only the topmost one may say."""

from scottbench.testing import analytic_teacher as analytic_teacher
from scottbench.testing import feature_cells as feature_cells
