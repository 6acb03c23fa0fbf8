"""One writer that nothing can tear, one reader of JSON records, and nobody beside them."""

from __future__ import annotations

import ast
import errno
import json
import os
from pathlib import Path

import pytest

from scottbench.errors import DamagedAsset, Incomplete, UsageError
from scottbench.store import files

HOST = Path(__file__).parents[2] / "scottbench"
OWN = {"loads", "load", "replace", "rename", "fsync", "write_text", "write_bytes"}
"""What only store/files.py may call: of json, os and paths."""


def calls(path: Path) -> set[str]:
    """The calls in a file that read a JSON record or write a whole file past store/files: {"json.loads"}."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in OWN:
            owner = ast.unparse(node.func.value)
            if owner in ("json", "os") or node.func.attr in ("write_text", "write_bytes", "rename"):
                found.add(f"{owner if owner in ('json', 'os') else 'path'}.{node.func.attr}")
    return found


@pytest.mark.parametrize("path", sorted(HOST.rglob("*.py")), ids=lambda path: str(path.relative_to(HOST)))
def test_nobody_else_reads_a_json_record_or_replaces_a_file(path):
    if path != HOST / "store" / "files.py":
        assert calls(path) == set()


@pytest.mark.parametrize("source", [
    "json.loads(text)", "json.load(stream)", "os.replace(a, b)", "(folder / 'x').write_text('')", "os.fsync(1)",
])  # fmt: skip
def test_the_check_sees_what_it_is_for(source, tmp_path):
    (tmp_path / "x.py").write_text(source)
    assert len(calls(tmp_path / "x.py")) == 1


@pytest.mark.parametrize("text, told", [
    (None, "No such file"), ("{", "line 1"), ("[]", "no JSON object"), ('{"b": 1}', "lacks 'a'"), ("\x00\xff", "line 1"),
    ("[" * 10**5, "deep"),
])  # fmt: skip
def test_a_record_that_cannot_be_read_is_the_callers_error_and_nothing_for_those_who_only_ask(tmp_path, text, told):
    path = tmp_path / "record.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DamagedAsset, match=told):
        files.read_object(path, lambda error: DamagedAsset(f"mine: {error}"), ["a"])
    assert files.read_json(path) in (None, {"b": 1})


def test_bytes_that_are_no_text_are_no_record(tmp_path):
    (tmp_path / "record.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UsageError):
        files.read_object(tmp_path / "record.json", UsageError)


def test_a_file_is_synced_before_its_name_and_its_folder_after(tmp_path, monkeypatch):
    """A loss of power between any two of the steps leaves the old bytes or the new ones."""
    order, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda stream: order.append("folder" if os.path.isdir(f"/proc/self/fd/{stream}") else "file"))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("rename"), replace(a, b)))
    files.write_file(tmp_path / "x", b"new")
    assert order == ["file", "rename", "folder"] and (tmp_path / "x").read_bytes() == b"new"


@pytest.mark.parametrize("number, kind", [(errno.ENOSPC, Incomplete), (errno.EDQUOT, Incomplete), (errno.EROFS, UsageError),
                                          (errno.EIO, UsageError)])  # fmt: skip
def test_a_refused_write_says_the_callers_next_step_and_leaves_the_old_bytes_alone(tmp_path, monkeypatch, number, kind):
    files.write_file(tmp_path / "x", b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with pytest.raises(kind, match=f"{os.strerror(number)}.* Do this next") as caught:
        files.write_file(tmp_path / "x", b"new", "Do this next.")
    assert "\n" not in str(caught.value)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"old")]


def test_a_folder_is_replaced_whole_and_a_kill_between_its_two_names_loses_nothing(tmp_path, monkeypatch):
    for name, text in (("old", "1"), ("new", "2")):
        files.write_file(tmp_path / name / "x", text.encode())
    os.rename(tmp_path / "old", tmp_path / "kept")
    replace, names = os.replace, []

    def killed(a, b):
        names.append(Path(b).name)
        if len(names) == 2:
            raise KeyboardInterrupt
        replace(a, b)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files.replace_folder(tmp_path / "new", tmp_path / "kept")
    assert names == ["kept.old", "kept"] and not (tmp_path / "kept").exists()
    monkeypatch.undo()
    files.restore_folder(tmp_path / "kept")
    assert (tmp_path / "kept" / "x").read_text() == "1"
    files.replace_folder(tmp_path / "new", tmp_path / "kept")
    assert (tmp_path / "kept" / "x").read_text() == "2" and [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_log_gives_its_whole_lines(tmp_path):
    (tmp_path / "log").write_bytes(json.dumps({"step": 1}).encode() + b'\n[]\n{"step": 2}\n\xff\n{"step": 3')
    assert files.whole_lines(tmp_path / "log") == [{"step": 1}, {"step": 2}]
    assert files.whole_lines(tmp_path / "none") == []
