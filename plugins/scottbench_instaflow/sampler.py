"""Euler steps along the student's rectified flow, from noise (u = 0) to data (u = 1)."""

from torch import Tensor

from scottbench import Sampling
from scottbench.diffusion import Schedule
from scottbench.errors import UsageError
from scottbench_instaflow.flow import euler, network_input, network_time, velocity
from scottbench_instaflow.options import SamplerOptions


def timesteps(schedule: Schedule, steps: int, options: SamplerOptions) -> list[float]:
    """Give the time steps at u = j/n, j = 0..n-1, that the U-Net is asked at.

    official: 1000 (1 - u), as the official pipeline has it; 4 steps: 1000, 750, 500, 250. exact: the teacher's time step of the same noise
    to signal ratio.
    """
    return [round(float(network_time(schedule, j / steps, options.form)), 3) for j in range(steps)]


def sample(run: Sampling) -> Tensor:
    """Sample (N,C,h,w): X_0 = z_T; X <- X + v(X, u) / n at u = 0, 1/n, ..., (n-1)/n.

    What the U-Net predicts stands in student.json; where it says nothing, as of published weights, the output is v. Raises UsageError for
    the exact form of such a student.
    """
    predict, facts = run.predict, run.student
    assert predict is not None and facts is not None, "this method samples students only"
    form, prediction = run.options.form, facts.get("prediction", "velocity")
    if form == "exact" and prediction == "velocity":
        raise UsageError(
            "form=exact is for a student with its teacher's parametrisation, and this one predicts a velocity: its student.json "
            "names nothing else. Leave form out."
        )

    def field(x: Tensor, u: float) -> Tensor:
        return velocity(run.schedule, x, u, predict(*network_input(run.schedule, x, u, form)), form, prediction)

    return euler(field, run.noise(0), run.steps)
