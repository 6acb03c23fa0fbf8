from scottbench.testing.finding import Check

PRESET_CHECKS: tuple[Check, ...] = ()
CLAIM_CHECKS: tuple[Check, ...] = ()
