"""python -m scottbench, for launchers: accelerate launch -m scottbench run ..."""

from scottbench.cli import main

if __name__ == "__main__":
    main()
