"""Run by test_training.py: two steps of SCott and CD on a tiny U-Net, and of the toy, as two processes and as one.

    python two_processes.py OUT    writes OUT/{start,one,two,toy-one,toy-two,cd,cd-split}.npy

The three processes are children of this one, which imports everything once; the two have the variables that torchrun and accelerate set.
"""

import os
import socket
import sys
import traceback
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # an optimizer imports it at its first step: once here, not in three processes
import torch.distributed.fsdp
from accelerate import Accelerator
from scottbench_cd.options import CDOptions
from scottbench_cd.trainer import ConsistencyDistillation
from scottbench_scott.options import SCottOptions
from scottbench_scott.trainer import StochasticConsistencyDistillation
from tiny import tiny_unet
from toy import Toy, toy_loop

from scottbench.diffusion import Schedule
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.pipeline import fast_layout
from scottbench.training.context import Context
from scottbench.training.data import Data
from scottbench.training.distributed import full
from scottbench.training.loop import Loop
from scottbench.training.settings import TrainSettings
from scottbench.training.train import prepare


def tiny_data() -> Data:
    draw = np.random.default_rng(0)
    z, text = draw.normal(size=(8, 4, 8, 8)).astype(np.float32), draw.normal(size=(8, 3, 32)).astype(np.float32)
    return Data(z, text, torch.zeros(1, 3, 32), torch.arange(8), torch.arange(0))


def tiny_loop(kind, options, accelerator, out: Path, **settings) -> Loop:
    torch.manual_seed(0)
    unet = fast_layout(tiny_unet()).requires_grad_(False).eval()
    teacher = DiffusionModel("0" * 64, Schedule.scaled_linear(), "epsilon", None, None, unet, None)
    made, chosen = kind(Context(teacher, "cpu"), options), TrainSettings(batch_size=4, **settings)
    for network in filter(None, (made.networks["student"], made.ema)):  # as a split student has to be: another layout rounds differently
        network.to(memory_format=torch.contiguous_format)
    prepare(made, teacher, chosen, accelerator.num_processes)
    return Loop(made, tiny_data(), accelerator, out, chosen, teacher)


def two_steps(loop: Loop) -> np.ndarray:
    """What two steps make of `numbers`, and the gradients' norms: Adam would hide a gradient that is too large by a factor."""
    norms = []
    for step in range(2):
        loop.state.step = step
        logged = loop.one_step(0.5)
        norms += [logged[f"{role}/grad_norm"] for role in loop.roles]
    return np.concatenate([numbers(loop), np.array(norms, np.float32)])


def numbers(loop: Loop) -> np.ndarray:
    """Every trainable number and the EMA's, in one row."""
    return torch.cat([full(t).flatten() for group in loop.tensors().values() for t in group.values()]).numpy().copy()


def train(out: Path) -> None:
    accelerator = Accelerator(cpu=True)
    processes = accelerator.num_processes
    scott = SCottOptions(disc_rank=2, h=2, lr=1e-3, disc_lr=1e-3, w_min=0.0, w_max=2.0)
    cd = CDOptions(lr=1e-3, w_min=0.0, w_max=2.0)
    found = {}
    if processes == 1:
        loop = tiny_loop(StochasticConsistencyDistillation, scott, accelerator, out, accumulate=2)
        found["start"] = numbers(loop)
        found["one"] = two_steps(loop)
        found["cd"] = two_steps(tiny_loop(ConsistencyDistillation, cd, accelerator, out, accumulate=2))
        found["toy-one"] = toy(out, accelerator)
    else:
        found["two"] = two_steps(tiny_loop(StochasticConsistencyDistillation, scott, accelerator, out))
        found["cd-split"] = two_steps(tiny_loop(ConsistencyDistillation, cd, accelerator, out, fsdp=True))
        found["toy-two"] = toy(out, accelerator)
    if accelerator.is_main_process:
        for name, array in found.items():
            np.save(out / f"{name}.npy", array)
    accelerator.end_training()


def toy(out: Path, accelerator) -> np.ndarray:
    """The whole batch at once, or on two processes: the student's loss is a mean over items, so its weights must be the same."""
    loop = toy_loop(out, Toy(random=False), accelerator)
    for step in range(3):
        loop.state.step = step
        loop.one_step(0.5)
    return torch.cat([p.detach().flatten() for p in loop.distillation.networks["student"].parameters()]).numpy()


def started(out: Path, **variables: str) -> int:
    """Fork a process that trains under a launcher's variables; its number."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        os.environ |= variables
        train(out)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def main(out: Path) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    numbers = [started(out, RANK=rank, LOCAL_RANK=rank, **both) for rank in "01"] + [started(out)]
    return max(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) != 0 for number in numbers)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
