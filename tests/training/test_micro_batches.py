"""Micro-batches free their graphs: four of them hold no more live memory than one."""

import pytest
import torch
from accelerate import Accelerator
from scottbench_cd.options import CDOptions
from scottbench_cd.trainer import ConsistencyDistillation
from scottbench_dmd2.options import DMD2Options
from scottbench_dmd2.trainer import DistributionMatching
from scottbench_flash.options import FlashOptions
from scottbench_flash.trainer import FlashDistillation
from scottbench_pcm.options import PCMOptions
from scottbench_pcm.trainer import PhasedConsistencyDistillation
from scottbench_scm.options import SCMOptions
from scottbench_scm.trainer import ContinuousConsistencyDistillation
from scottbench_scott.options import SCottOptions
from scottbench_scott.trainer import StochasticConsistencyDistillation
from scottbench_ufogen.options import UFOGenOptions
from scottbench_ufogen.trainer import DiffusionGAN
from two_processes import tiny_loop

SCOTT = {"disc_rank": 2, "h": 2}
TRAINERS = {
    "cd": (ConsistencyDistillation, CDOptions()),
    "scott": (StochasticConsistencyDistillation, SCottOptions(**SCOTT)),
    "scott, all that keeps more": (
        StochasticConsistencyDistillation,
        SCottOptions(**SCOTT, discriminator="full", adv_scale="gradient", adv_fade="margin", disc_steps=2, reuse=2, disc_input="target")),
    "flash": (FlashDistillation, FlashOptions(grid=2, modes=2, lora_rank=2, disc_width=8)),
    "dmd2": (DistributionMatching, DMD2Options(steps=2, gan_scale="gradient", ema=0.9)),
    "pcm": (PhasedConsistencyDistillation, PCMOptions(variant="full", discriminator="heads", disc_heads=1, adv_scale="gradient")),
    "ufogen": (DiffusionGAN, UFOGenOptions(disc_every=1, discriminator="lora", disc_rank=2)),
    "scm": (ContinuousConsistencyDistillation, SCMOptions()),
}  # fmt: skip


class Held:
    """Counts the bytes that graphs keep for their backward passes, and the most that there were; weights are not counted."""

    def __init__(self, loop):
        networks = filter(None, [loop.model.unet, loop.distillation.ema, *loop.distillation.networks.values()])
        self.weights = {p.untyped_storage().data_ptr() for network in networks for p in network.parameters()}
        self.now = self.most = 0

    def pack(self, tensor):
        held, tensor = self, tensor.detach()  # with its graph, an output that nobody goes back through would hold itself

        class Saved:
            bytes = 0 if tensor.untyped_storage().data_ptr() in held.weights else tensor.nbytes

            def __init__(self):
                self.tensor = tensor
                held.now += self.bytes
                held.most = max(held.most, held.now)

            def __del__(self):
                held.now -= self.bytes

        return Saved()


@pytest.mark.parametrize("name", TRAINERS)
def test_four_micro_batches_hold_the_graph_of_one(tmp_path, name):
    kind, options = TRAINERS[name]
    found = {}
    for parts in (1, 4):
        loop = tiny_loop(kind, options, Accelerator(cpu=True), tmp_path, accumulate=parts)
        data = loop.data
        loop.micro_batch_size = 1  # one item a part, whatever the number of parts
        held = Held(loop)
        with torch.autograd.graph.saved_tensors_hooks(held.pack, lambda saved: saved.tensor):
            loop.one_step(0.5)
        assert held.now == 0 and loop.data is data
        found[parts] = held.most
    assert found[1] > 50_000
    assert found[4] <= 1.05 * found[1], found
