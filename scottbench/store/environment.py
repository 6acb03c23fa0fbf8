"""What a run was made with, by an allow-list: no variable, path, host or user name is ever recorded."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scottbench.store.manifest import Environment, Git

ENVIRONMENTS = "env.json"
ENVIRONMENT_SCHEMA = "scottbench.env/1"

VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS", "DNNL_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE",
    "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "MKL_DYNAMIC", "OMP_DYNAMIC", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES",
    "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip
"""The environment variables that are recorded: all of them change arithmetic, none of them holds a secret."""
COUNTED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that do nothing but set a number of threads, which is recorded as it came out."""
PACKAGES = ("scottbench", "torch", "diffusers", "transformers", "open_clip_torch", "clean-fid", "numpy", "scipy", "polars", "pillow")
COMPUTING = ("torch", "diffusers", "transformers", "open_clip_torch", "clean-fid", "numpy", "scipy", "pillow")
"""Packages whose other version may round otherwise."""


def environment(device: str, distributions: Iterable[str] = ()) -> Environment:
    """Return a JSON-able record: python, platform, processor, torch threads, package versions, git state of a checkout, device."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "packages": versions(dict.fromkeys((*PACKAGES, *distributions))),
        "git": git_state(Path(__file__).resolve().parents[2]),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "flags": {
            "cuda": torch.version.cuda,
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "tf32": torch.backends.cuda.matmul.allow_tf32,
            **rounding(),
        },
    }


def rounding() -> dict[str, Any]:
    """Return how torch rounds on this CPU, in this process: instruction set, oneDNN, precision of products, subnormal numbers."""
    import torch

    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled),
        "matmul_precision": torch.get_float32_matmul_precision(),
        # the mode can be set, not asked for: half of the least normal number shows it
        "flush_denormal": float(torch.full((1,), 2.0**-126) * 0.5) == 0.0,
    }


def arithmetic(environment: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the facts that must be equal for two environments to give equal bytes at level exact: processor, threads, device, switches
    of its arithmetic, versions of what computes."""
    packages, variables, flags = (environment.get(key) or {} for key in ("packages", "variables", "flags"))
    return (
        *(environment.get(key) for key in ("cpu", "threads", "device")),
        *(packages.get(name) for name in COMPUTING),
        *(str(variables.get(name)).lower() for name in VARIABLES if name not in COUNTED),
        *(f"{name} {flags[name]}" for name in sorted(flags)),
    )


def flush_denormals() -> None:
    """Let subnormal numbers become 0: they are frequent in activations on white, and cost a CPU many times a normal product.

    Call it before the first parallel operation: threads that exist already keep their own mode, and would round otherwise.
    """
    import torch

    torch.set_flush_denormal(True)


def cores() -> int:
    """Count the cores that this process may use: of its affinity and its control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        allowed = min(allowed, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no control group, or "max"
    return max(1, allowed)


def set_tf32(on: bool) -> None:
    """Let a GPU round the factors of products in float32, of matrices and of convolutions, to TF32's 10 bits, or not. The one switch for
    both (--tf32): by itself torch rounds those of convolutions only. A CPU has no TF32."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each distribution; those that are not installed are left out."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Return the processor's model name, or its architecture where the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_state(folder: Path) -> Git | None:
    """Return {"commit": hex, "dirty": bool} of the checkout that the package runs from; None for an installed package."""
    if not (folder / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True, timeout=30)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
