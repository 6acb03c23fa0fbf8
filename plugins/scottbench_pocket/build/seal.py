"""Seal the shipped students again, after a change of what their student.json says: python -m scottbench_pocket.build.seal"""

from __future__ import annotations

from scottbench.models.student import seal_again

from . import common


def main() -> None:
    """Give every student.json below assets/students the seal of its fields."""
    for path in sorted((common.ASSETS / "students").glob("*/student.json")):
        seal_again(path.parent)
        print(f"sealed {path}")


if __name__ == "__main__":
    main()
