from scottbench.testing.finding import Check

TRAINER_CHECKS: tuple[Check, ...] = ()
