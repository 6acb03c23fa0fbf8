"""Encoded training splits of these tests go to a folder of their own, not to the user's cache; a command line with a tiny plug-in."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SCOTTBENCH_CACHE", str(folder))
        yield folder


@pytest.fixture
def cli(files, tmp_path, monkeypatch, capsys):
    """cli("train", "cd") -> (exit code, stdout, stderr), in an empty working folder; cli.plugins may be set."""
    import transformers
    from tiny_cd import with_cd

    from scottbench.cli import invoke

    monkeypatch.chdir(tmp_path)
    transformers.logging.disable_progress_bar()

    def call(*arguments):
        capsys.readouterr()
        code = invoke(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    call.plugins = with_cd(files)
    monkeypatch.setattr("scottbench.registry.loader.load_plugins", lambda: call.plugins)
    return call
