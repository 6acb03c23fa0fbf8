"""InstaFlow-like training (Liu et al. 2023; methods.md 4) in one run: pairs by the teacher's ODE, reflow on them, pairs by the
reflowed student's ODE, one-step distillation on those. Each stage has a share of the budget."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from scottbench import Batch, Context, Method, Sampling, TextCondition
from scottbench.errors import UsageError
from scottbench.models.diffusion_model import UNet
from scottbench.models.transfer import sent
from scottbench.training.distillation import conditioned_output, guidance_facts, guided_teacher, stratified, student_copy, uniform_guidance
from scottbench_instaflow.flow import euler, interpolate, network_input, velocity
from scottbench_instaflow.options import InstaFlowOptions
from scottbench_instaflow.pairs import Pairs
from scottbench_instaflow.perceptual import FeatureDistance

Needed = TypeVar("Needed")
STAGES = ("pairs", "reflow", "student_pairs", "distil")
WARMUP = 20
"""Updates of linear warm-up at the start of reflow and of the distillation, which are new objectives to the optimizer."""
HELD_OUT = 16
"""Held-out prompts on which `evaluate` solves the teacher's ODE, once."""


class RectifiedFlow:
    """Stages in order, each a number of steps: one batch of pairs made, or one update of the student."""

    def __init__(self, context: Context, options: InstaFlowOptions):
        self.teacher, self.options, self.data = context.teacher, options, needed(context.data, "data")
        student = student_copy(context.teacher.unet, options.w_min, options.w_max, options.w_start)
        self.networks: dict[str, Any] = {"student": student.requires_grad_(True)}
        self.ema = copy.deepcopy(student).requires_grad_(False)
        self.ema_decay = options.ema
        self.learning_rates = {"student": options.lr}
        self.betas: dict[str, tuple[float, float]] = {}
        self.solver = teacher_solver(needed(context.find_method, "find_method"), options.solver)
        self.distance: FeatureDistance | None = None
        if options.perceptual_weight > 0:
            self.distance = FeatureDistance(context.teacher, needed(context.open_extractor, "open_extractor")("image"))
        folder = None if context.folder is None else context.folder / "pairs"
        self.pairs = {name: Pairs(None if folder is None else folder / name) for name in ("teacher", "student")}
        self.shares = {stage: getattr(options, f"{stage}_share") for stage in STAGES}
        self.held_out: Tensor | None = None
        self.memory: dict[str, Any] = {
            "stage": "pairs",
            "since": 0,
            "step": -1,
            "steps": dict.fromkeys(STAGES, 0),
            "batches": dict.fromkeys(self.pairs, 0),
            "evaluations": dict.fromkeys(self.pairs, 0),
            "seconds": dict.fromkeys(self.pairs, 0.0),
        }

    # --- stages ------------------------------------------------------------------------------------------------------

    def step(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor], dict[str, float]]]:
        """Make one batch of pairs, or yield the student's losses, 0-d, on such pairs: the stage says which."""
        for name, pairs in self.pairs.items():
            if len(pairs.batches) != self.memory["batches"][name]:  # a resumed training
                pairs.load(self.memory["batches"][name], len(needed(self.data, "data")))
        memory = self.memory
        if batch["step"] != memory["step"]:  # else another part of the same step: all parts are of one stage
            self.advance(batch["step"], batch["fraction"])
            memory["step"] = batch["step"]
            memory["steps"][memory["stage"]] += 1
        stage = memory["stage"]
        if stage in ("pairs", "student_pairs"):
            yield "student", {}, self.make_pairs(batch, "teacher" if stage == "pairs" else "student")
            return
        rate = self.options.lr if stage == "reflow" else self.options.distil_lr
        self.learning_rates["student"] = rate * min(1.0, (batch["step"] - memory["since"] + 1) / WARMUP)
        yield "student", self.reflow(batch) if stage == "reflow" else self.distil(batch), {}

    def check_memory(self, memory: dict[str, Any]) -> None:
        """Look at a memory that comes from a checkpoint. Raises ValueError for a stage without a share or a number that is no count."""
        counts = [*memory["batches"].values(), *memory["steps"].values(), *memory["evaluations"].values()]
        if self.shares.get(memory["stage"], 0) <= 0 or any(not isinstance(count, int) or count < 0 for count in counts):
            raise ValueError("its stage or counts cannot be")

    def advance(self, step: int, fraction: float) -> None:
        """Go on to the stage that is due when `fraction` of the budget is spent; every stage with a share has at least one step."""
        stages = [stage for stage in STAGES if self.shares[stage] > 0]
        while self.memory["stage"] != stages[-1]:
            position = stages.index(self.memory["stage"])
            spent = fraction >= sum(self.shares[stage] for stage in stages[: position + 1]) - 1e-9
            if self.memory["steps"][stages[position]] == 0 or not (spent or self.is_full()):
                return
            self.memory |= {"stage": stages[position + 1], "since": step}

    def is_full(self) -> bool:
        """Tell whether the stage makes pairs and has made all it may."""
        sets = {"pairs": "teacher", "student_pairs": "student"}
        limit, name = self.options.pairs, sets.get(self.memory["stage"])
        return limit is not None and name is not None and len(self.pairs[name]) >= limit

    # --- pairs -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def make_pairs(self, batch: Batch, name: str) -> dict[str, float]:
        """Make one pair for each prompt of the batch. The images of the data set are not looked at."""
        started = time.perf_counter()
        noise, w = self.draw(batch["latents"], batch["generator"])
        ode = self.teacher_ode if name == "teacher" else self.student_ode
        data = ode(noise, batch["text"], batch["uncond"], w)
        self.pairs[name].add(noise, data, w, batch["indices"])
        self.memory["batches"][name] += 1
        self.memory["seconds"][name] += time.perf_counter() - started
        return {f"{name}_pairs": len(self.pairs[name])}

    def draw(self, like: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw noise of the shape of `like`, (N,C,h,w), and guidance w (N,)."""
        noise = torch.randn(like.shape, generator=generator)
        return sent((noise, uniform_guidance(len(like), self.options.w_min, self.options.w_max, generator)), like.device)

    def teacher_ode(self, noise: Tensor, text: TextCondition, uncond: TextCondition, w: Tensor) -> Tensor:
        """Return z_0, (N,C,h,w), of the guided teacher's ODE from z_T = noise, by the solver's `solver_steps`. Raises
        UsageError for a solver that draws noise on its way."""

        def denoise(z: Tensor, t: int) -> tuple[Tensor, Tensor]:
            self.memory["evaluations"]["teacher"] += 2 * len(z)
            return guided_teacher(self.teacher, z, torch.full((len(z),), t, device=z.device), text, uncond, w)

        def only_the_first(k: int) -> Tensor:
            if k > 0:
                raise UsageError(f"solver={self.options.solver}: it draws noise on its way; pairs need a deterministic method.")
            return noise

        settings = self.solver.options()
        return self.solver.sample(Sampling(denoise, only_the_first, self.teacher.schedule, self.options.solver_steps, settings))

    def student_ode(self, noise: Tensor, text: TextCondition, uncond: TextCondition, w: Tensor) -> Tensor:
        """Return X_1, (N,C,h,w), of the averaged student's flow from X_0 = noise, in `student_steps` Euler steps."""

        def field(x: Tensor, u: float) -> Tensor:
            self.memory["evaluations"]["student"] += len(x)
            return self.velocity(self.ema, x, torch.full((len(x),), u, dtype=torch.float64, device=x.device), text, w)

        return euler(field, noise, self.options.student_steps)

    def velocity(self, network: UNet, x: Tensor, u: Tensor, text: TextCondition, w: Tensor) -> Tensor:
        """Return v(X_u, u, c, w) of a network of the student's form, (N,C,h,w); u (N,) float64."""
        z, t = network_input(self.teacher.schedule, x, u.to(x.device), self.options.form)
        output = conditioned_output(network, z, t, text, w)
        return velocity(self.teacher.schedule, x, u, output, self.options.form, self.teacher.prediction)

    # --- losses ------------------------------------------------------------------------------------------------------

    def chosen(self, name: str, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, TextCondition]:
        """Draw (noise (N,C,h,w), data (N,C,h,w), w (N,), u (N,) float64, text (N,L,D)): as many pairs as the batch has items."""
        n, generator = len(batch["latents"]), batch["generator"]
        pair = self.pairs[name].draw(n, generator)
        u = stratified(n, generator)
        return sent((pair["noise"], pair["data"], pair["w"], u, self.data.texts(pair["items"], "cpu")), batch["latents"].device)

    def reflow(self, batch: Batch) -> dict[str, Tensor]:
        """Return the 0-d loss E |(data - noise) - v(X_u, u)|^2 per element, u ~ U[0, 1], on the teacher's pairs."""
        noise, data, w, u, text = self.chosen("teacher", batch)
        return {"reflow": mse_loss(self.velocity(self.networks["student"], interpolate(noise, data, u), u, text, w), data - noise)}

    def one_step(self, network: UNet, noise: Tensor, text: TextCondition, w: Tensor) -> Tensor:
        """Return noise + v(noise, 0), (N,C,h,w): the flow in one Euler step."""
        return noise + self.velocity(network, noise, torch.zeros(len(noise), dtype=torch.float64, device=noise.device), text, w)

    def distil(self, batch: Batch) -> dict[str, Tensor]:
        """Return the 0-d losses E |data - one step from noise|^2 per element, and where asked the same of the images' features."""
        noise, data, w, _, text = self.chosen("student" if self.shares["student_pairs"] > 0 else "teacher", batch)
        made = self.one_step(self.networks["student"], noise, text, w)
        losses = {"latent": mse_loss(made, data)}
        start = 1 - self.shares["distil"] * (1 - self.options.perceptual_from)
        if self.distance is not None and batch["fraction"] >= start:
            losses["perceptual"] = self.options.perceptual_weight * self.distance(made, data)
        return losses

    # --- what is measured and exported -------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Return the mean squared distance per element between one step of the averaged student and the end of the teacher's ODE from
        the same noise, on held-out prompts that are the same every time."""
        text = batch["text"][:HELD_OUT]
        noise, w = self.draw(batch["latents"][:HELD_OUT], batch["generator"])
        if self.held_out is None:
            spent = dict(self.memory["evaluations"])
            self.held_out = self.teacher_ode(noise, text, batch["uncond"], w)
            self.memory["evaluations"] = spent  # the price of the pairs alone
        return {"held_out_one_step_distance": float(mse_loss(self.one_step(self.ema, noise, text, w), self.held_out))}

    def student_config(self) -> dict[str, Any]:
        """Return the facts that the sampler needs, and beside them what the stages did, and what the pairs cost within the training's
        own totals."""
        memory = self.memory
        facts = {
            **guidance_facts(self.options.w_min, self.options.w_max),
            "sampler": {"form": self.options.form},
            "prediction": self.teacher.prediction,
            "made_for": [1] if memory["steps"]["distil"] > 0 else list(range(1, 26)),
            "stage_steps": memory["steps"],
            "pairs": {name: {
                "pairs": len(pairs),
                "network_evaluations": memory["evaluations"][name],
                "minutes": round(memory["seconds"][name] / 60, 2),
            } for name, pairs in self.pairs.items()},
        }
        if self.distance is not None:
            facts["trained_on_features"] = self.distance.digest
        return facts


def teacher_solver(find_method: Callable[[str], Method], name: str) -> Method:
    """Find the method `name`, which must sample the teacher itself. Raises UsageError."""
    method = find_method(name)
    if method.trainer is not None:
        raise UsageError(f"solver={name}: it samples a student of trainer '{method.trainer}'. Give a sampler of the teacher itself.")
    return method


def needed(value: Needed | None, name: str) -> Needed:
    """Return a value of the context that `scottbench train` always gives. Raises UsageError where it is None."""
    if value is None:
        raise UsageError(f"this trainer needs the context's {name}; scottbench train gives it.")
    return value
