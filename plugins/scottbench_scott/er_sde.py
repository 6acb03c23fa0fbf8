"""ER-SDE solvers (Cui et al. 2023, arXiv 2309.06169) as samplers of the teacher: what SCott's chain does, from noise to image."""

from torch import Tensor

from scottbench import Sampling
from scottbench.diffusion import Schedule, scale, update
from scottbench_scott.noise_functions import rho_er_sde, second_order_term, third_order_weight
from scottbench_scott.options import ERSDEOptions


def timesteps(schedule: Schedule, steps: int, options: ERSDEOptions) -> list[int]:
    """Place `steps` time steps evenly from T-1 towards 0, which is left out: for 25 steps 999, 959, ..., 80, 40."""
    return [round((len(schedule) - 1) * (1 - j / steps)) for j in range(steps)]


def sample(run: Sampling) -> Tensor:
    """Sample x0 (N,C,h,w) from z_T. Each step keeps the share rho of the noise that is there and draws the rest anew; orders 2 and 3 add
    the slope and the curvature of x0 over lambda, as far as there are earlier steps. The prediction at the last time is the sample."""
    schedule, o, times = run.schedule, run.options, timesteps(run.schedule, run.steps, run.options)
    z = run.noise(0)
    before: list[tuple[int, Tensor]] = []
    for number, (s, t) in enumerate(zip(times, times[1:]), start=1):
        x0, eps = run.denoise(z, s)
        rho = float(rho_er_sde(schedule, s, t, o.noise_function, o.strength))
        # strength 0 is the ODE, which draws nothing
        z = update(schedule, x0, eps, t, rho, None if rho == 1 else run.noise(number))
        before.append((s, x0))
        if o.order >= 2 and len(before) >= 2:
            z = z + correction(schedule, t, before[-o.order:], o)
    return run.denoise(z, times[-1])[0]


def correction(schedule: Schedule, t: int, before: list[tuple[int, Tensor]], options: ERSDEOptions) -> Tensor:
    """Return the terms of orders 2 and 3, (N,C,h,w), of the step to t. before: (time, x0 (N,C,h,w)) of two or three evaluations, the last
    of them where the step begins."""
    formula, strength, (s, x0) = options.noise_function, options.strength, before[-1]
    added = second_order_term(schedule, (s, t), x0, before[-2], formula, strength)
    if len(before) < 3:
        return added
    (lam_2, x0_2), (lam_1, x0_1), (lam, _) = ((float(schedule.lam(time)), x) for time, x in before)
    curvature = 2 * ((x0 - x0_1) / (lam - lam_1) - (x0_1 - x0_2) / (lam_1 - lam_2)) / (lam - lam_2)
    return added + scale(schedule.alpha(t) * float(third_order_weight(schedule, s, t, formula, strength)), curvature)
