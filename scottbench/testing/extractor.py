from scottbench.testing.finding import Check

EXTRACTOR_CHECKS: tuple[Check, ...] = ()
