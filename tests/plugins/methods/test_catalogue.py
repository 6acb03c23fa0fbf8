"""That the catalogue of invariants (methods.md 7.2) is tested whole, and those of it that need real networks' sizes or weights."""

import ast
import copy
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_unet

from scottbench.diffusion import Schedule
from scottbench.training.discriminator import Discriminator, trainable_share
from scottbench.training.distillation import consistency_output, w_conditioned_copy

TESTS = Path(__file__).parents[2]
SD = Schedule.scaled_linear()


def markers(function: ast.FunctionDef) -> set[int]:
    """Numbers of a test's @pytest.mark.invariant(n)."""
    found = re.findall(r"pytest\.mark\.invariant\((\d+)\)", "\n".join(map(ast.unparse, function.decorator_list)))
    return {int(number) for number in found}


def test_every_invariant_of_the_catalogue_has_a_test_that_says_so():
    """1 to 30; and a test that has a number in its name has it as a marker."""
    marked = set()
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                named = re.match(r"test_invariants?_(\d+)_(?:and_(\d+)_)?", node.name)
                numbers = set() if named is None else {int(number) for number in named.groups() if number is not None}
                assert numbers == markers(node) or named is None, f"{path.name}: {node.name}"
                marked |= markers(node)
    assert marked == set(range(1, 31))


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return tiny_unet().requires_grad_(False).eval()


@pytest.mark.invariant(11)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_invariant_11_any_network_is_the_identity_at_t_0(unet, prediction):
    """f(z, 0, c, w) = z bitwise, whatever the weights are."""
    student, teacher = w_conditioned_copy(unet), SimpleNamespace(schedule=SD, prediction=prediction)
    z, text = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 32)
    for scale in (0.0, 0.1, 3.0):
        for p in student.parameters():
            torch.nn.init.normal_(p, std=scale)
        f = consistency_output(teacher, student, z, torch.zeros(2, dtype=torch.int64), text, torch.tensor([0.0, 7.0]))
        assert torch.equal(f, z)
    other = consistency_output(teacher, student, z, torch.ones(2, dtype=torch.int64), text, torch.tensor([0.0, 7.0]))
    assert not torch.equal(other, z)


@pytest.mark.invariant(20)
@pytest.mark.parametrize("kind", ["lora", "unconditional"])
def test_invariant_20_with_b_at_zero_the_discriminator_s_features_are_the_teacher_s(unet, kind):
    discriminator = Discriminator(copy.deepcopy(unet), kind, rank=4)
    torch.manual_seed(1)
    torch.nn.init.normal_(discriminator.head.weight)
    z, tau, text, uncond = torch.randn(2, 4, 8, 8), torch.tensor([5, 900]), torch.randn(2, 3, 32), torch.randn(1, 3, 32)
    seen = []
    hook = unet.conv_out.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        if kind == "unconditional":
            unet(z, 0 * tau, encoder_hidden_states=uncond.expand_as(text))
        else:
            unet(z, tau, encoder_hidden_states=text)
        hook.remove()
        expected = discriminator.head(seen[0])[:, 0].mean((1, 2))
        assert torch.equal(discriminator(z, tau, text, uncond), expected), "adapters are on, and B = 0"
        for p in discriminator.trainable:
            torch.nn.init.normal_(p, std=0.3) if p.dim() == 2 else None
        assert not torch.allclose(discriminator(z, tau, text, uncond), expected, atol=1e-3)


@pytest.mark.invariant(20)
def test_invariant_20_rank_64_is_3_65_percent_of_sd15():
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        teacher = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768,
            block_out_channels=(320, 640, 1280, 1280), attention_head_dim=8).requires_grad_(False)  # fmt: skip
        discriminator = Discriminator(teacher, "lora", 64)
    learned = sum(p.numel() for p in discriminator.trainable)
    assert learned / 1e6 == pytest.approx(32.53, abs=0.01)
    assert trainable_share(discriminator) == pytest.approx(0.0365, abs=5e-5)
