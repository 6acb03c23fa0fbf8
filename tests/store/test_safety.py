"""Pickles are refused, and no name of a prompt, plug-in or checkpoint leaves the folder or steers what shows it."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file
from tiny_plugin import METHODS, Dots, tiny_plugins

from scottbench.errors import DamagedAsset, UsageError
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry.nouns import Method
from scottbench.run.execute import execute

quiet = lambda event: None  # noqa: E731


@pytest.fixture
def pickled(files, tmp_path):
    """A copy of the tiny pipeline whose U-Net is a .bin."""
    folder = shutil.copytree(files / "model", tmp_path / "model")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    return folder


def request(folder, **changes):
    return RunRequest("tiny", methods=["ode"], steps=[1], limit=2, device="cpu", model=str(folder), **changes)


def test_pickled_weights_are_refused_unless_allowed_and_then_recorded_and_shown(plugins, files, pickled, tmp_path):
    with pytest.raises(UsageError, match="(?s)unet/diffusion_pytorch_model.bin.*can run code.*--allow-unsafe-checkpoint"):
        make_plan(plugins, request(pickled))
    plan = make_plan(plugins, request(pickled, allow_unsafe_checkpoint=True))
    assert plan.record["model"]["unsafe"] == ["unet/diffusion_pytorch_model.bin"]
    root = execute(plan, plugins, tmp_path / "run", None, quiet)
    assert "unet/diffusion_pytorch_model.bin" in (root / "report/index.html").read_text()
    # the same weights as safetensors are another model, with nothing to confess
    assert make_plan(plugins, request(files / "model", allow_unsafe_checkpoint=True)).record["model"]["unsafe"] == []


def test_code_in_a_pickle_does_not_run_even_if_allowed(plugins, pickled, tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    (pickled / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(DamagedAsset):
        make_plan(plugins, request(pickled, allow_unsafe_checkpoint=True))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".pth"])
def test_a_checkpoint_file_is_refused_with_what_to_do(plugins, tmp_path, suffix):
    (tmp_path / f"model{suffix}").write_bytes(b"x")
    with pytest.raises(UsageError, match="Convert it to a diffusers pipeline"):
        make_plan(plugins, request(tmp_path / f"model{suffix}", allow_unsafe_checkpoint=True))


HOSTILE = (
    "<script>alert(1)</script>", "\x1b]0;owned\x07\x1b[2J\x9b31m", "{{7*7}}", "\u202egnp.exe", "../../etc/passwd",
    "=cmd|' /C calc'!A0", "\\input{/etc/passwd}",
)  # fmt: skip


@dataclass(frozen=True)
class Named:
    style: str = ""


def test_hostile_prompts_options_and_failures_stay_text_wherever_they_are_shown(files, tmp_path):
    class Hostile(Dots):
        prompts = (*HOSTILE, *Dots.prompts[len(HOSTILE) :])

    def crash(run):
        raise RuntimeError("\x1b[2J<script>alert(2)</script>\x9b")

    plugins = tiny_plugins(files, methods=[Method("crash", "s", crash, METHODS[0].timesteps)], items=Hostile)
    asked = RunRequest("tiny", methods=["hop", "crash"], steps=[1], device="cpu", command="scottbench run \x1b[2J")
    with pytest.raises(Exception, match="1 part"):
        execute(make_plan(plugins, asked), plugins, tmp_path / "run", None, quiet)
    inside = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert inside and all((tmp_path / "run") in path.parents for path in inside)
    for path in inside:
        if path.suffix in {".json", ".ndjson", ".txt", ".html"}:
            text = path.read_text()
            assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text), path
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "<script>alert" not in page and "{{7*7}}" in page
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["samples"]["prompts"] == list(HOSTILE[:4])


@pytest.mark.parametrize("text", ["../up", "a/b", "=1+1", "\x1b[2J", "x" * 200])
def test_a_cell_cannot_be_named_out_of_the_folder_by_an_option(files, text):
    plugins = tiny_plugins(files, methods=[Method("named", "s", METHODS[0].sample, METHODS[0].timesteps, options=Named)])
    if text == "=1+1":  # a formula only where it begins a field; a label begins with the method's name
        (cell,) = make_plan(plugins, RunRequest("tiny", methods=[f"named@style={text}"], steps=[1], device="cpu")).cells
        assert cell.method.label.startswith("named@")
    else:
        with pytest.raises(UsageError, match="cannot be a file name"):
            make_plan(plugins, RunRequest("tiny", methods=[f"named@style={text}"], steps=[1], device="cpu"))
