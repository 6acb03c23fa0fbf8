"""One update of the training loop: in which precision it is made, and how large its gradient may be."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from toy import Toy, toy_loop, weights


def test_mixed_precision_is_of_the_forward_passes_only(tmp_path):
    """On a CPU by hand, since `train` never does so there: losses and held-out values are made in bfloat16, the weights are not."""

    class Seen(Toy):
        def step(self, batch):
            self.dtypes = [network(batch["latents"].flatten(1)).dtype for network in self.networks.values()]
            yield from super().step(batch)

        def evaluate(self, batch):
            self.dtypes.append(self.networks["student"](batch["latents"].flatten(1)).dtype)
            return {}

    for word, expected in (("no", torch.float32), ("bf16", torch.bfloat16)):
        AcceleratorState._reset_state(True)  # one word a process otherwise
        loop = toy_loop(tmp_path, Seen(), Accelerator(cpu=True, mixed_precision=word))
        before = weights(loop)
        loop.one_step(0.5)
        loop.held_out()
        assert loop.distillation.dtypes == [expected] * 3
        assert weights(loop).dtype == torch.float32 and not torch.equal(weights(loop), before)
        for optimizer in loop.optimizers.values():
            moments = [value for state in optimizer.state_dict()["state"].values() for value in state.values()]
            assert moments and all(moment.dtype == torch.float32 for moment in moments)
    AcceleratorState._reset_state(True)


def test_gradients_are_clipped_to_norm_1_and_logged_as_they_were(tmp_path, monkeypatch):
    loop, used = toy_loop(tmp_path), {}
    for role, optimizer in loop.optimizers.items():
        step = lambda role=role: used.update({role: float(torch.stack([p.grad.norm() for p in loop.parameters[role]]).norm())})  # noqa: E731
        monkeypatch.setattr(optimizer, "step", step)
    logged = loop.one_step(0.5)
    assert all(logged[f"{role}/grad_norm"] > 1.5 for role in loop.roles), logged
    assert used == {role: pytest.approx(1.0, abs=1e-4) for role in loop.roles}
