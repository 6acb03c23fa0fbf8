"""The run folder that the report's tests make by hand is of use here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "report"))
