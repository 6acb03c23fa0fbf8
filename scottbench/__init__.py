"""scottbench: a benchmark of few-step text-to-image samplers.

This is the public face: what a plug-in registers, and four functions for notebooks and scripts.

    import scottbench
    run = scottbench.benchmark(methods=["scott", "cd"], steps=[2], limit=256)
    run.results

`sample` makes pictures of your own prompts, `distil` a student of your own, `open_run` opens a run folder.

Each name is imported when it is first used, so that `import scottbench` loads neither torch nor any plug-in.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # type checkers take it for true by its name; the module typing would double the time of this import
__version__ = "0.1.0"
DEFAULT_PRESET = "pocket"
"""The preset that needs nothing but this package: what `benchmark`, `distil` and the command line take where none is named."""

if TYPE_CHECKING:
    from scottbench.models.extractors import OpenExtractor as OpenExtractor
    from scottbench.registry.condition import TextCondition as TextCondition
    from scottbench.registry.hookspecs import hookimpl as hookimpl
    from scottbench.registry.lazy import lazy as lazy
    from scottbench.registry.nouns import Batch as Batch
    from scottbench.registry.nouns import CellFeatures as CellFeatures
    from scottbench.registry.nouns import Dataset as Dataset
    from scottbench.registry.nouns import Distillation as Distillation
    from scottbench.registry.nouns import Extractor as Extractor
    from scottbench.registry.nouns import Influence as Influence
    from scottbench.registry.nouns import Items as Items
    from scottbench.registry.nouns import Method as Method
    from scottbench.registry.nouns import Metric as Metric
    from scottbench.registry.nouns import Model as Model
    from scottbench.registry.nouns import NoOptions as NoOptions
    from scottbench.registry.nouns import Sampling as Sampling
    from scottbench.registry.nouns import Trainer as Trainer
    from scottbench.run.notebook import Run as Run
    from scottbench.run.notebook import benchmark as benchmark
    from scottbench.run.notebook import open_run as open_run
    from scottbench.run.notebook import sample as sample
    from scottbench.run.own_prompts import Samples as Samples
    from scottbench.training.context import Context as Context
    from scottbench.training.notebook import Student as Student
    from scottbench.training.notebook import distil as distil

_WHERE = {
    "models.extractors": "OpenExtractor",
    "registry.condition": "TextCondition",
    "registry.hookspecs": "hookimpl",
    "registry.lazy": "lazy",
    "registry.nouns": "Batch CellFeatures Dataset Distillation Extractor Influence Items Method Metric Model NoOptions Sampling Trainer",
    "run.notebook": "Run benchmark open_run sample",
    "run.own_prompts": "Samples",
    "training.context": "Context",
    "training.notebook": "Student distil",
}
"""Module -> the public names that it defines; the block for type checkers above says the same, and a test compares the two."""
_MODULE = {name: f"scottbench.{module}" for module, names in _WHERE.items() for name in names.split()}
__all__ = sorted([*_MODULE, "__version__"])


if not TYPE_CHECKING:  # a type checker that sees it takes every name for one of ours

    def __getattr__(name):
        if name not in _MODULE:
            raise AttributeError(f"module 'scottbench' has no attribute '{name}'. It has: {', '.join(__all__)}")
        found = getattr(importlib.import_module(_MODULE[name]), name)
        globals()[name] = found  # the next look-up does not come here
        return found


def __dir__() -> list[str]:
    return __all__
