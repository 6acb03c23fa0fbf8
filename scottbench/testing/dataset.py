from scottbench.testing.finding import Check

DATASET_CHECKS: tuple[Check, ...] = ()
