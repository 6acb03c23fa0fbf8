"""An example plug-in: DDIM with a noise strength."""

from dataclasses import dataclass

from scottbench import Method, hookimpl, lazy


@dataclass(frozen=True)
class Options:
    eta: float = 1.0
    """0 is the ODE step, 1 the ancestral step."""

    def __post_init__(self):
        if not 0 <= self.eta <= 1:
            raise ValueError(f"need 0 <= eta <= 1, found {self.eta}")


@hookimpl
def register_methods():
    return [
        Method(
            name="ddim-eta",
            summary="DDIM with partly refreshed noise",
            sample=lazy("scottbench_example.ddim_eta:sample"),
            timesteps=lazy("scottbench_example.ddim_eta:timesteps"),
            paper="Song et al. 2021, equation 16",
            guidance=3.0,
            options=Options,
        )
    ]
