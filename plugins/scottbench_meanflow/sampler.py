"""Steps by the average velocity of a MeanFlow student, on the line from noise to data (Geng et al. 2025, algorithm 2)."""

from scottbench.diffusion import nearest, scale, to_x0_eps
from scottbench_meanflow.line import embedded_interval, last_time


def timesteps(schedule, steps, options):
    """The teacher's time steps nearest to even times on the line, t = t_T (1 - j/n): 2 steps [999, 316]."""
    line = [last_time(float(schedule.lam(t))) for t in range(len(schedule))]
    times = [len(schedule) - 1, *(nearest(line, line[-1] * (1 - j / steps)) for j in range(1, steps))]
    return times if all(a > b for a, b in zip(times, times[1:])) else []


def sample(run):
    """X <- X - (t - r) u(X, r, t) from the schedule's noisiest time to 0, on the line X = (1 - t) x0 + t eps.

    z_T is taken as the teacher's z at the last time step, as all samplers here take it. The interval t - r is the U-Net's second input.
    """
    assert run.predict is not None and run.student is not None, "this method samples students only"
    schedule, prediction = run.schedule, run.student.get("prediction", "epsilon")
    steps = timesteps(schedule, run.steps, run.options)
    line = [last_time(float(schedule.lam(t))) for t in steps] + [0.0]
    x = scale(_length(line[0]), run.noise(0))
    for k, step in enumerate(steps):
        t, r = line[k], line[k + 1]
        z = scale(1 / _length(t), x)
        output = run.predict(z, step, embedded_interval(t - r, run.options.interval_scale))
        x0, eps = to_x0_eps(schedule, z, step, output, prediction)
        x = x - scale(t - r, eps - x0)
    return x


def _length(t):
    """The factor between a point of the line and the teacher's z."""
    return (t**2 + (1 - t) ** 2) ** 0.5
