"""A student names the code that made it, and a training is gone on with by the code that began it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_cd import with_cd

from scottbench.errors import UsageError
from scottbench.plan import code
from scottbench.training.choices import choose
from scottbench.training.folder import check_folder
from scottbench.training.request import TrainRequest
from scottbench.training.train import made_by


def made(files):
    plugins = with_cd(files)
    return made_by(plugins, choose(plugins, TrainRequest("cd", "tiny", out="s", device="cpu")))


@pytest.mark.parametrize(("file", "key"), [
    ("loop.py", "host_code"), ("diffusion.py", "host_code"), ("trainer.py", "code"), ("tiny_plugin.py", "code"), ("worker.py", None),
])  # fmt: skip
def test_it_names_package_and_version_and_follows_all_code_that_takes_part(files, monkeypatch, file, key):
    before, original = made(files), code.digest_of
    assert (before["package"], before["version"]) == ("scottbench", "0")
    monkeypatch.setattr(code, "digest_of", lambda path: "f" * 16 if Path(path).name == file else original(path))
    after = made(files)
    assert [name for name in before if before[name] != after[name]] == ([] if key is None else [key])


def test_other_code_does_not_go_on_with_a_training_and_one_of_an_older_version_is_gone_on_with(tmp_path):
    config = {"trainer": "cd", "made_by": {"package": "scottbench", "version": "0", "code": "a" * 16, "host_code": "b" * 16}}
    (tmp_path / "training.json").write_text(json.dumps(config))
    check_folder(tmp_path, config, resume=True)
    other = config | {"made_by": config["made_by"] | {"code": "c" * 16}}
    with pytest.raises(UsageError, match=r"made_by\.code was a{16}, now c{16}"):
        check_folder(tmp_path, other, resume=True)
    (tmp_path / "training.json").write_text(json.dumps({"trainer": "cd"}))
    check_folder(tmp_path, other, resume=True)
