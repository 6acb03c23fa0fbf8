"""A training's folder that is shared, tampered with, full, moved or stopped: lock, checkpoints, log, the trainer's own files, signals."""

import errno
import json
import os
import shutil
import signal
from dataclasses import asdict

import pytest
import torch
from tiny_cd import contents, refused
from toy import Toy, toy_loop, weights

from scottbench.errors import Busy, DamagedAsset, Incomplete, ScottbenchWarning, UsageError
from scottbench.training.folder import claimed
from scottbench.training.loop import State
from scottbench.training.settings import Budget
from scottbench.training.tensors import read_tensors, write_tensors

TRAIN = ("train", "cd", "-p", "tiny", "-b", "4", "-q", "-o", "s", "-O", "lr=1e-3", "-O", "w_min=0", "-O", "w_max=4")


def run(loop, max_steps, progress=lambda *event: None):
    loop.run(Budget(None, max_steps), progress)
    return loop


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a toy's training of two steps; copied, not used."""
    out = tmp_path_factory.mktemp("toy")
    run(toy_loop(out), 2)
    return out


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "s")


def reseal(checkpoint):
    """Note the digests anew, as somebody would who means harm."""
    from scottbench.store.assets import file_digest

    record = json.loads((checkpoint / "digests.json").read_text())
    for name in record["files"]:
        record["files"][name] = {"bytes": (checkpoint / name).stat().st_size, "sha256": file_digest(checkpoint / name)}
    (checkpoint / "digests.json").write_text(json.dumps(record))


def flip(path, at=-1):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# --- lock ------------------------------------------------------------------------------------------------------------


def test_a_folder_is_trained_in_by_one_process_at_a_time(cli, tmp_path):
    with claimed(tmp_path / "s", {"seed": 0}, resume=False):
        before = contents(tmp_path)
        with pytest.raises(Busy, match="s is in use by process"), claimed(tmp_path / "s", {"seed": 0}, resume=False):
            pass
        refused(cli(*TRAIN, "--max-steps", "1"), 4, "s is in use by process", "Wait until it has ended, or name another folder with --out")
        assert contents(tmp_path) == before
    assert list((tmp_path / "s").iterdir()) == [], "the lock goes with its holder"
    assert cli(*TRAIN, "--max-steps", "1")[0] == 0 and not (tmp_path / "s" / "lock.json").exists()


def test_what_is_refused_makes_no_folder(tmp_path):
    with pytest.raises(UsageError, match="nothing to resume"), claimed(tmp_path / "s", {}, resume=True):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="File name too long"), claimed(tmp_path / ("x" * 300), {}, resume=False):
        pass


@pytest.mark.parametrize("value", ["abc", "2.5"])
@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["train", "dry"])
def test_a_launchers_variable_that_is_no_number_is_named(cli, tmp_path, monkeypatch, value, dry):
    monkeypatch.setenv("WORLD_SIZE", value)
    refused(cli(*TRAIN, *dry), 2, "WORLD_SIZE")
    assert list(tmp_path.iterdir()) == []


# --- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "digests.json"])
def test_one_flipped_bit_of_a_checkpoint_is_noticed(copy, name):
    """Also of a bit that leaves every file readable: the last one of a tensor, a digit of the step, a digit of a digest."""
    path = copy / "checkpoint" / name
    at = {"state.json": path.read_bytes().find(b'"step": ') + 8, "digests.json": path.read_bytes().find(b'"sha256": "') + 12}
    before = contents(copy)
    flip(path, at.get(name, -1))
    after = toy_loop(copy)
    fresh = weights(after)
    with pytest.raises(DamagedAsset, match=r"cannot read the checkpoint .* Restore it from a copy, or train anew with") as caught:
        after.resume()
    assert "\n" not in str(caught.value) and torch.equal(weights(after), fresh), "nothing of it was used"
    path.write_bytes(before[path.relative_to(copy)])
    after.resume()
    assert after.state.step == 2


def sealed(change):
    """A change of the record in state.json."""
    def made(checkpoint):
        path = checkpoint / "state.json"
        record = change(json.loads(path.read_text()))
        path.write_text(record if isinstance(record, str) else json.dumps(record))
    return made


@pytest.mark.parametrize("change, told", [
    (lambda s: {k: v for k, v in s.items() if k != "step"}, "state.json lacks 'step'"),
    (lambda s: s | {"evil\x1b": 1}, "unknown key 'evil'"),
    (lambda s: [], "no JSON object"),
    (lambda s: s | {"step": "two"}, "'step' in state.json cannot be 'two'"),
    (lambda s: s | {"step": float("nan")}, "'step' in state.json cannot be nan"),
    (lambda s: s | {"step": True}, "'step' in state.json cannot be True"),
    (lambda s: s | {"step": -1}, "'step' in state.json cannot be -1"),
    (lambda s: s | {"seconds": float("inf")}, "'seconds' in state.json cannot be inf"),
    (lambda s: s | {"scaler": [1]}, "'scaler' in state.json cannot be"),
    (lambda s: s | {"memory": {"made": 1}}, "unknown key 'memory'"),
    (lambda s: s | {"schema": "scottbench.checkpoint/9"}, "its schema is 'scottbench.checkpoint/9'"),
    (lambda s: "[" * 10**5, "nested too deeply"),
    (lambda s: '{"step": ' + "1" * 5000 + "}", "state.json"),
])  # fmt: skip
def test_a_state_that_cannot_be_is_refused_in_one_line_though_its_digests_fit(copy, change, told):
    sealed(change)(copy / "checkpoint")
    reseal(copy / "checkpoint")
    with pytest.raises(DamagedAsset, match="cannot read the checkpoint") as caught:
        toy_loop(copy).resume()
    assert told in str(caught.value) and "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize("tensors, told", [
    (lambda t: t | {"student/0": t["student/0"] * torch.inf}, "'student/0' holds NaN or infinity"),
    (lambda t: t | {"student/moments/9/exp_avg": torch.zeros(3)}, "'student/moments/9/exp_avg' is no moment of a parameter"),
    (lambda t: t | {"student/moments/x": torch.zeros(3)}, "is no moment of a parameter"),
    (lambda t: t | {"student/moments/0/exp_avg": torch.zeros(7)}, "'student/moments/0/exp_avg' is no moment"),
    (lambda t: {k: v for k, v in t.items() if not k.startswith("ema")}, "made with other options (its ema network differs)"),
])  # fmt: skip
def test_tensors_that_cannot_be_are_refused_though_their_digest_fits(copy, tensors, told):
    from safetensors.torch import load_file, save_file

    path = copy / "checkpoint" / "tensors.safetensors"
    save_file(tensors(load_file(path)), path)
    reseal(copy / "checkpoint")
    with pytest.raises((DamagedAsset, UsageError)) as caught:
        toy_loop(copy).resume()
    assert told in str(caught.value)


def test_a_checkpoint_of_an_older_version_is_read_with_a_warning_and_one_that_lost_its_digests_is_not(copy):
    (copy / "checkpoint" / "digests.json").unlink()
    with pytest.raises(DamagedAsset, match=r"digests.json is missing"):
        toy_loop(copy).resume()
    record = json.loads((copy / "checkpoint" / "state.json").read_text())
    (copy / "checkpoint" / "state.json").write_text(json.dumps({key: record[key] for key in asdict(State())}))
    old = toy_loop(copy)
    with pytest.warns(ScottbenchWarning, match=r"has no digests \(it is of an older version\): its bytes cannot be checked"):
        old.resume()
    assert old.state.step == 2


def test_a_checkpoint_of_another_training_or_one_that_is_a_link_is_refused(copy, tmp_path):
    for seed in (0, 1):
        out = tmp_path / str(seed)
        out.mkdir()
        (out / "training.json").write_text(json.dumps({"seed": seed, "options": {"lr": 0.1}}))
        run(toy_loop(out, seed=seed), 1)
    shutil.rmtree(tmp_path / "0" / "checkpoint")
    shutil.copytree(tmp_path / "1" / "checkpoint", tmp_path / "0" / "checkpoint")
    with pytest.raises(DamagedAsset, match=r"it is of another training \(seed was 1, now 0\)"):
        toy_loop(tmp_path / "0").resume()
    (copy / "checkpoint" / "state.json").rename(tmp_path / "state.json")
    (copy / "checkpoint" / "state.json").symlink_to(tmp_path / "state.json")
    with pytest.raises(DamagedAsset, match=r"state.json is no regular file"):
        toy_loop(copy).resume()


# --- the trainer's own memory -----------------------------------------------------------------------------------------


class Remembering(Toy):
    """A toy that counts, and looks at what comes back."""

    def __init__(self, count=0):
        super().__init__()
        self.memory = {"count": count, "stage": "a", "parts": {"x": 0.0}}

    def check_memory(self, memory):
        if memory["stage"] not in "ab":
            raise ValueError(f"stage {memory['stage']}")


@pytest.mark.parametrize("memory, told", [
    (None, "lacks the trainer's 'memory'"), ([], "lacks the trainer's 'memory'"), ({"count": 1}, "'memory' in state.json lacks 'stage'"),
    ({"count": "1", "stage": "a", "parts": {"x": 0}}, "'memory.count' in state.json cannot be '1'"),
    ({"count": 1, "stage": "a", "parts": {"x": float("nan")}}, "'memory.parts.x' in state.json cannot be nan"),
    ({"count": 1, "stage": "evil", "parts": {"x": 1}}, "stage evil"),
])  # fmt: skip
def test_a_memory_that_cannot_be_is_refused_in_one_line(tmp_path, memory, told):
    run(toy_loop(tmp_path, Remembering()), 1)
    sealed(lambda state: state | {"memory": memory})(tmp_path / "checkpoint")
    reseal(tmp_path / "checkpoint")
    with pytest.raises(DamagedAsset) as caught:
        toy_loop(tmp_path, Remembering()).resume()
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [torch.zeros(1), float("nan")], ids=["tensor", "nan"])
def test_a_memory_that_no_checkpoint_can_hold_is_refused_before_the_first_step(tmp_path, count):
    toy = Remembering(count)
    with pytest.raises(UsageError, match="the trainer's memory cannot be kept in a checkpoint"):
        run(toy_loop(tmp_path, toy), 1)
    assert toy.seen == []


# --- files that a trainer keeps itself -------------------------------------------------------------------------------


def test_a_trainers_own_file_is_bound_to_its_place_and_its_bytes(tmp_path):
    path, names = tmp_path / "s" / "pairs" / "teacher" / "00000.safetensors", ("a", "b")
    (tmp_path / "s").mkdir()
    a = torch.arange(6.0).view(2, 3)
    write_tensors(path, {"a": a, "b": a}, {"batch": "0"})
    found, with_digest = read_tensors(path, names, {"batch": "0"})
    assert with_digest and torch.equal(found["b"], a)
    with pytest.raises(DamagedAsset, match="it was written as another file"):
        read_tensors(path, names, {"batch": "1"})
    with pytest.raises(DamagedAsset, match="it does not hold a"):
        read_tensors(path, ("a",), {"batch": "0"})
    flip(path)
    with pytest.raises(DamagedAsset, match="it is not what was written. Restore it from a copy, or train anew with another --out"):
        read_tensors(path, names, {"batch": "0"})
    write_tensors(path, {"a": a / 0, "b": a}, {"batch": "0"})
    with pytest.raises(DamagedAsset, match="NaN or infinity"):
        read_tensors(path, names, {"batch": "0"})
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(Incomplete, match="go on with --resume"):
        write_tensors(path, {"a": a}, {})
    assert not (tmp_path / "s").exists(), "a deleted training folder is not made again"


# --- the log ---------------------------------------------------------------------------------------------------------


def test_foreign_lines_of_the_log_are_left_out_with_a_warning(copy):
    log = copy / "log.jsonl"
    own = log.read_text()
    log.write_text('{"a": 1}\nno json\n[1]\n{"step": "x"}\n' + own + '{"step": 3}\n{"step": ')
    loop = toy_loop(copy)
    with pytest.warns(ScottbenchWarning, match=r"2 lines of .*log.jsonl without a step are left out"):
        loop.resume()
    assert log.read_text() == own


def test_a_log_that_is_a_link_or_a_folder_is_not_written_through(copy, tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (copy / "log.jsonl").unlink()
    (copy / "log.jsonl").symlink_to(target)
    with pytest.raises(UsageError, match=r"log.jsonl is no regular file"):
        toy_loop(copy).resume()
    with pytest.raises(Incomplete, match=r"cannot write .*log.jsonl: .* The checkpoint of step 1 is kept"):
        run(toy_loop(copy), 3)
    assert target.read_text() == "precious"


# --- a folder that goes away, a full disk ----------------------------------------------------------------------------


def test_a_log_that_cannot_be_written_ends_the_training_with_its_state_saved(tmp_path, monkeypatch):
    opened = os.open

    def full(path, *arguments):
        if str(path).endswith("log.jsonl"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, *arguments)

    full_disk = pytest.raises(Incomplete, match="No space left on device. The checkpoint of step 1 is kept")
    with monkeypatch.context() as patch, full_disk as caught:
        patch.setattr(os, "open", full)
        run(toy_loop(tmp_path), 9)
    assert "\n" not in str(caught.value)
    again = toy_loop(tmp_path)
    again.resume()
    assert torch.equal(weights(run(again, 9)), weights(run(toy_loop(tmp_path / "whole"), 9)))


@pytest.mark.parametrize("away", ["deleted", "moved", "replaced"])
def test_a_folder_that_was_moved_or_deleted_costs_nothing(tmp_path, away):
    """The state goes to a folder beside it, from which the training goes on bit for bit; the path itself, which may be somebody else's
    by now, is left alone."""
    out = tmp_path / "s"
    out.mkdir()
    (out / "training.json").write_text('{"seed": 0}')

    def go_away(event, step, *rest):
        if step == 3:
            shutil.move(out, tmp_path / "elsewhere") if away != "deleted" else shutil.rmtree(out)
            if away == "replaced":
                out.mkdir()

    with pytest.raises(Incomplete, match=r"s was moved or deleted while it was trained in.* step 3 is kept in .*s.kept-1: go on") as caught:
        run(toy_loop(out), 6, go_away)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 4
    assert (list(out.iterdir()) == []) if away == "replaced" else not out.exists()
    kept = tmp_path / "s.kept-1"
    assert (kept / "training.json").read_text() == json.dumps({"seed": 0}, indent=1) + "\n"
    again = toy_loop(kept)
    again.resume()
    assert again.state.step == 3 and torch.equal(weights(run(again, 6)), weights(run(toy_loop(tmp_path / "whole"), 6)))


def test_a_folder_that_is_read_only_is_one_line(cli, tmp_path, monkeypatch):
    def refuses(*arguments, **words):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    assert cli(*TRAIN, "--max-steps", "1")[0] == 0
    before = contents(tmp_path)
    monkeypatch.setattr("scottbench.training.folder.replace_file", refuses)
    refused(cli(*TRAIN, "--max-steps", "2", "--resume"), 2, "Permission denied")
    assert contents(tmp_path) == before


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number, code, word", [
    (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGUSR1, 138, "asked to make room")])  # fmt: skip
def test_a_signal_says_what_is_kept_and_how_to_go_on(cli, tmp_path, monkeypatch, number, code, word):
    from scottbench.text.progress import Progress

    def event(self, stage, *values):
        if stage == "train" and values[0] == 2:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "train_event", event)
        found = cli(*TRAIN, "--max-steps", "4")
    line = "scottbench " + " ".join(TRAIN) + " --max-steps 4 --resume"
    refused(found, code, f"error: {word}; the checkpoint of step 2 is kept in s. Go on with: {line}\n")
    assert cli(*line.split()[1:])[0] == 0
    assert json.loads((tmp_path / "s" / "student.json").read_text())["steps"] == 4


def test_a_signal_before_the_first_checkpoint_says_to_begin_again(cli, monkeypatch):
    def early(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("scottbench.training.train.open_data", early)
        refused(cli(*TRAIN, "--max-steps", "1"), 130, "interrupted; no checkpoint had been made yet; what was encoded is kept. Go on with: "
                "scottbench " + " ".join(TRAIN) + " --max-steps 1\n")  # fmt: skip
    assert cli(*TRAIN, "--max-steps", "1")[0] == 0


def test_a_signal_while_the_last_checkpoint_is_written_waits_for_it(tmp_path, monkeypatch):
    from scottbench.training import checkpoint

    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *given: (os.kill(os.getpid(), signal.SIGINT), save(*given)))
    with pytest.raises(KeyboardInterrupt):
        run(toy_loop(tmp_path), 2)
    again = toy_loop(tmp_path)
    again.resume()
    assert again.state.step == 2


def test_a_signal_that_the_process_ignores_stays_ignored(tmp_path):
    """As of a training that was started with nohup in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        loop = run(toy_loop(tmp_path), 3, lambda *event: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert loop.state.step == 3


@pytest.fixture
def as_started():
    """Signals as a process begins with them: a command line that ran in this one before has its own."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGUSR1, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("as_started")
def test_a_scheduler_s_two_signals_cut_no_checkpoint_and_the_user_s_second_one_does(tmp_path):
    """SIGUSR1 and SIGTERM of a pre-emption come within a moment, in any order, the first perhaps twice."""
    number, other = signal.SIGUSR1, signal.SIGTERM
    for name, order in {"a": (number, other), "b": (other, number), "c": (number, number, other, other)}.items():
        seen = []

        def event(*values, order=order, seen=seen):
            seen.append(values[1])
            for each in order:
                os.kill(os.getpid(), each)

        with pytest.raises(SystemExit) as caught:
            run(toy_loop(tmp_path / name), 6, event)
        again = toy_loop(tmp_path / name)
        again.resume()
        assert (caught.value.code, seen, again.state.step) == (138, [1], 1), name
    for order in ((other, other), (number, signal.SIGINT)):
        out = tmp_path / str(order)
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            run(toy_loop(out), 6, lambda *event, order=order: [os.kill(os.getpid(), each) for each in order])
        assert not (out / "checkpoint").exists()
