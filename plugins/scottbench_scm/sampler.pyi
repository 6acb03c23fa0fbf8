from torch import Tensor

from scottbench import Sampling
from scottbench.diffusion import Schedule
from scottbench_scm.options import SamplerOptions

def timesteps(schedule: Schedule, steps: int, options: SamplerOptions) -> list[int]: ...
def sample(run: Sampling) -> Tensor: ...
