"""Euler steps along the student's rectified flow, from noise (u = 0) to data (u = 1)."""

from torch import Tensor

from scottbench import Sampling
from scottbench.diffusion import Schedule
from scottbench_instaflow.flow import euler, network_input, velocity


def timesteps(schedule: Schedule, steps: int, options: object = None) -> list[float]:
    """Give 1000 (1 - j/n) for j = 0..n-1: the flow's time as the official pipeline gives it to its U-Net. 4 steps: 1000, 750, 500, 250."""
    return [round(len(schedule) * (1 - j / steps), 3) for j in range(steps)]


def sample(run: Sampling) -> Tensor:
    """Sample (N,C,h,w): X_0 = z_T; X <- X + v(X, u) / n at u = 0, 1/n, ..., (n-1)/n.

    How v is read from the U-Net's output stands in student.json; where it says nothing, as of published weights, the output is v.
    """
    predict, facts = run.predict, run.student
    assert predict is not None and facts is not None, "this method samples students only"
    form, prediction = facts.get("form", "official"), facts.get("prediction", "velocity")

    def field(x: Tensor, u: float) -> Tensor:
        return velocity(run.schedule, x, u, predict(*network_input(run.schedule, x, u, form)), form, prediction)

    return euler(field, run.noise(0), run.steps)
