"""One small run of the tiny plug-in, made once a session through the public face."""

import pytest


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """(run, plug-ins): both tiny methods at 1 and 2 steps, 2 seeds, made by `benchmark`."""
    import tiny_plugin

    import scottbench
    from scottbench.registry import loader

    made = tiny_plugin.tiny_plugins(tiny_plugin.shared_files(tmp_path_factory))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "load_plugins", lambda: made)
        out = tmp_path_factory.mktemp("face") / "run"
        run = scottbench.benchmark(steps=[1, 2], preset="tiny", limit=None, out=out, seeds=[0, 3], progress=False)
    return run, made


@pytest.fixture
def tiny(small, monkeypatch, tmp_path):
    """The plug-ins of `small` in place of the installed ones, in an empty working folder."""
    from scottbench.registry import loader

    monkeypatch.setattr(loader, "load_plugins", lambda: small[1])
    monkeypatch.chdir(tmp_path)
    return small[1]
