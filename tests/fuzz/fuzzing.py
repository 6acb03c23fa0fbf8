"""How long to search."""

import os

LONG = os.environ.get("SCOTTBENCH_FUZZ") == "long"
"""Set the variable to "long" for the whole search: 700 command lines and 300 records."""
