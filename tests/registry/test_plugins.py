"""The plug-in loader and its accidents: one bad plug-in is named and marked, the others go on working."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
from bare_preset import bare_preset

from scottbench.errors import UsageError
from scottbench.registry.loader import load_plugins
from scottbench.registry.presets import read_preset

HERE = Path(__file__).parent.parent
HEAD = """
from pathlib import Path
from scottbench.registry.hookspecs import hookimpl
from scottbench.registry.nouns import Method, Metric, Trainer, lazy

def method(name):
    return Method(name=name, summary="a sampler", sample=print, timesteps=print)
"""
GOOD = """
@hookimpl
def register_methods():
    return [method("{name}")]
"""


@dataclass
class Distribution:
    name: str
    version: str = "1.2"


@dataclass
class EntryPoint:
    """What the loader uses of importlib.metadata.EntryPoint; the module is made from `source` when it is loaded."""

    name: str
    source: str
    dist: Distribution | None

    @property
    def value(self) -> str:
        return f"module_{self.name}"

    def load(self):
        module = types.ModuleType(self.value)
        exec(compile(HEAD + self.source, f"/plug/{self.value}.py", "exec"), module.__dict__)
        return module


def entry(name: str, source: str, distribution: str = "acme") -> EntryPoint:
    return EntryPoint(name, source, Distribution(distribution))


def broken_line(source: str) -> str:
    """The BROKEN line of a plug-in made of `source`, after checking that its neighbour still works."""
    plugins = load_plugins([entry("bad", source), entry("good", GOOD.format(name="fine"))])
    assert plugins.find("method", "fine").plugin == "good"
    bad = next(plugin for plugin in plugins.plugins if plugin.name == "bad")
    assert bad.status.startswith("BROKEN: ")
    assert "\n" not in bad.status
    assert not any(found.plugin == "bad" for names in plugins.nouns.values() for found in names.values())
    return bad.status


def test_a_name_of_two_packages_means_neither_and_each_has_it_behind_its_own():
    two = [entry("zeta", GOOD.format(name="x"), "zoo"), entry("alpha", GOOD.format(name="x"), "Ac_me")]
    for order in (two, two[::-1]):
        plugins = load_plugins(order)
        assert not plugins.broken
        with pytest.raises(UsageError, match=r"method 'x' is registered by 2 packages. Say which: Ac_me/x or zoo/x; .*\(alpha, zeta\)"):
            plugins.find("method", "x")
        assert [plugins.find("method", f"{name}/x").plugin for name in ("ac-me", "alpha", "zoo", "zeta")] == ["alpha"] * 2 + ["zeta"] * 2
        assert plugins.remarks == ["method 'x' is registered by several packages: say Ac_me/x or zoo/x"]
        x = plugins.find("method", "zoo/x").noun
        assert x.name == "x" and plugins.of("method", x).plugin == "zeta"


def test_a_name_of_one_package_may_have_it_in_front():
    plugins = load_plugins([entry("alpha", GOOD.format(name="x"), "acme")])
    assert plugins.find("method", "acme/x") is plugins.find("method", "x")
    with pytest.raises(UsageError, match="unknown method 'zoo/x'"):
        plugins.find("method", "zoo/x")


def test_two_plug_ins_of_one_package_cannot_have_one_name():
    plugins = load_plugins([entry("zeta", GOOD.format(name="x")), entry("alpha", GOOD.format(name="x"))])
    (broken,) = plugins.broken
    assert broken.name == "zeta" and "method 'x' of acme 1.2 is registered by two of its plug-ins, 'alpha' and 'zeta'" in broken.status


def test_a_clash_of_two_plug_in_names_names_both_distributions():
    plugins = load_plugins([entry("same", GOOD.format(name="x"), "zoo"), entry("same", GOOD.format(name="y"), "acme")])
    (broken,) = plugins.broken
    assert "two plug-ins are called 'same'" in broken.status
    assert "acme 1.2" in broken.status
    assert "zoo 1.2" in broken.status
    assert list(plugins.nouns["method"]) == ["y"]


def test_our_own_plug_ins_come_first_so_that_no_other_can_take_a_bundled_name():
    plugins = load_plugins([entry("a", GOOD.format(name="x"), "aardvark"), entry("z", GOOD.format(name="x"), "scottbench")])
    assert plugins.find("method", "x").distribution == "scottbench"
    assert plugins.find("method", "aardvark/x").plugin == "a"
    assert plugins.remarks == ["method 'x' is registered by several packages: alone it is scottbench's; the other is aardvark/x"]


def test_a_name_twice_in_one_plug_in_is_refused():
    assert "registers method 'x' twice" in broken_line('@hookimpl\ndef register_methods():\n    return [method("x"), method("x")]')


def test_a_misspelt_hook_is_an_error_with_a_suggestion():
    line = broken_line("@hookimpl\ndef register_method():\n    return []")
    assert "unknown hook 'register_method'. Did you mean 'register_methods'?" in line


def test_a_misspelt_optional_hook_is_an_error_too():
    assert "unknown hook 'register_metric'" in broken_line("@hookimpl(optionalhook=True)\ndef register_metric():\n    return []")


def test_a_misspelt_hook_beside_a_good_one_breaks_the_plug_in():
    assert "unknown hook 'register_metricz'" in broken_line(GOOD.format(name="x") + "@hookimpl\ndef register_metricz():\n    return []")


def test_a_hook_without_its_mark_is_an_error():
    line = broken_line("def register_methods():\n    return []")
    assert "'register_methods' lacks the @hookimpl mark (from scottbench import hookimpl)" in line


def test_a_plug_in_without_hooks_is_an_error():
    assert "implements no hook" in broken_line("")


def test_a_hook_with_arguments_is_an_error():
    assert "PluginValidationError" in broken_line("@hookimpl\ndef register_methods(register):\n    register(1)")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module_at_all", ["ModuleNotFoundError: No module named 'no_such_module_at_all'", "module_bad.py:"]),
        ("raise RuntimeError('\\n\\n  needs a licence \\nsecond line')", ["RuntimeError: needs a licence (module_bad.py:"]),
        ("import sys\nsys.exit(3)", ["SystemExit: 3"]),
        ("def f(:", ["SyntaxError"]),
        ("raise RuntimeError('\\x1b]0;owned\\x07\\x1b[31mred')", ["RuntimeError: red"]),
        ("@hookimpl\ndef register_methods():\n    return [1/0]", ["ZeroDivisionError"]),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_marked_with_its_first_useful_line(source, words):
    line = broken_line(source)
    for word in words:
        assert word in line
    assert "\x1b" not in line


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("pass", "must return a list, got NoneType"),
        ("return method('x')", "must return a list, got Method"),
        ("return ['x']", "must return Method instances, got str"),
        ("return [method('../x')]", "may have letters"),
        ("return [method('a,b')]", "may have letters"),
        ("return [method('a@b')]", "may have letters"),
        ("return [method('x\\x1b[2J')]", "may have letters"),
        ("return [Method('x', 's', lazy('no_such_package_here:f'), print)]", "no such module"),
        ("return [Method('x', 's', print, print, options=dict)]", "must be a dataclass"),
    ],
)
def test_what_a_hook_returns_is_checked(body, words):
    assert words in broken_line(f"@hookimpl\ndef register_methods():\n    {body}")


def test_what_a_plug_in_prints_at_import_does_not_reach_stdout(capsys):
    load_plugins([entry("noisy", "print('hello')" + GOOD.format(name="x"))])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello" in captured.err


def test_an_entry_point_without_a_distribution_works():
    plugins = load_plugins([EntryPoint("loose", GOOD.format(name="x"), None)])
    assert plugins.find("method", "x").distribution == "(no distribution)"


# --- finding a name ---------------------------------------------------------------------------------------------------

NAMES = GOOD.format(name="scott") + """
@hookimpl
def register_metrics():
    return [Metric(name="fid", summary="s", compute=print, higher_is_better=False)]

@hookimpl
def register_trainers():
    return [Trainer(name="scott", summary="s", build=print)]
"""


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("method", "scot", ["unknown method 'scot'. Did you mean 'scott'?", "See: scottbench list methods"]),
        ("method", "SCOTT", ["Did you mean 'scott'?"]),
        ("method", "fid", ["('fid' is a metric: use --metrics fid)"]),
        ("method", "fdi", ["('fid' is a metric: use --metrics fid)"]),
        ("metric", "scott", ["use --methods scott"]),
        ("metric", "\x1b[31mzzz", ["unknown metric 'zzz'"]),
    ],
)  # fmt: skip
def test_an_unknown_name_gets_a_suggestion_across_all_kinds(kind, name, words):
    plugins = load_plugins([entry("all", NAMES)])
    with pytest.raises(UsageError) as caught:
        plugins.find(kind, name)
    for word in words:
        assert word in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_no_suggestion_where_nothing_is_close():
    with pytest.raises(UsageError) as caught:
        load_plugins([entry("all", NAMES)]).find("method", "qqqq")
    assert str(caught.value) == "unknown method 'qqqq'. See: scottbench list methods"


def test_a_name_that_a_broken_plug_in_would_bring_is_explained():
    plugins = load_plugins([entry("extra", GOOD.format(name="lcm") + "@hookimpl\ndef register_metrics():\n    import no_such_thing")])
    with pytest.raises(UsageError, match="Plug-in 'extra' of acme 1.2, which should bring it, is BROKEN: ModuleNotFoundError"):
        plugins.find("method", "lcm")


def test_a_name_that_may_be_hidden_in_a_plug_in_that_failed_to_import_is_explained():
    with pytest.raises(UsageError, match=r"BROKEN plug-in \(extra\): scottbench list plugins"):
        load_plugins([entry("extra", "import no_such_thing")]).find("method", "lcm")


# --- presets ----------------------------------------------------------------------------------------------------------

PRESET = bare_preset("tiny", "a")


def preset_at(folder: Path, text: str) -> Path:
    path = folder / "preset.toml"
    path.write_text(text)
    return path


def test_a_preset_is_read_with_its_folder(tmp_path):
    tables = '[guidance]\na = 2\n[extractors.clip]\nsame_as = "image"\n[extractors.image]\nkind = "open_clip"\n'
    preset = read_preset(preset_at(tmp_path, PRESET + 'model_card = "q.json"\n' + tables))
    assert preset.steps == [2]
    assert preset.path(preset.model_card) == tmp_path.resolve() / "q.json"
    assert preset.path("/abs") == Path("/abs")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PRESET + 'metricz = ["x"]', "unknown key 'metricz'. Did you mean 'metrics'?"),
        (PRESET + 'folder = "x"', "unknown key 'folder'"),
        (PRESET.replace("steps = [2]", 'steps = ["two"]'), "'steps' must be a list of whole numbers, found ['two']"),
        (PRESET.replace("steps = [2]", "steps = [true]"), "'steps' must be a list of whole numbers"),
        (PRESET.replace("steps = [2]", "steps = [0]"), "steps must be numbers of at least 1"),
        (PRESET.replace("steps = [2]", ""), "key 'steps' is missing"),
        (PRESET.replace('"tiny"', '"../tiny"'), "may have letters"),
        (PRESET + "[extractors.image]\nkindd = 1", "unknown key 'kindd' in [extractors.image]. Did you mean 'kind'?"),
        (PRESET + '[extractors.clip]\nsame_as = "image"', "is the same as 'image', which is not there"),
        (PRESET + "[train]\nminuts = 1", "unknown key 'minuts' in [train]. Did you mean 'minutes'?"),
        (PRESET + 'dtype = "float23"', "dtype must be one of float32, float16, bfloat16, found 'float23'. Did you mean 'float32'?"),
        (PRESET + "[guidance]\na = true", "'guidance' must be a table"),
        ("name = ", "cannot be read"),
    ],
)
def test_a_wrong_preset_says_what_is_wrong(tmp_path, text, words):
    with pytest.raises(UsageError) as caught:
        read_preset(preset_at(tmp_path, text))
    assert words in str(caught.value)


def test_a_wrong_preset_breaks_its_plug_in_only(tmp_path):
    path = preset_at(tmp_path, PRESET + "nonsense = 1")
    assert "unknown key 'nonsense'" in broken_line(f"@hookimpl\ndef register_presets():\n    return [Path({str(path)!r})]")
    assert "cannot be read" in broken_line("@hookimpl\ndef register_presets():\n    return [Path('/no/such.toml')]")


# --- a real package, in a folder and a distribution of its own --------------------------------------------------------


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """tests/third_party/scottbench_example, built and installed by pip into an empty folder."""
    target = tmp_path_factory.mktemp("site")
    source = HERE / "third_party" / "scottbench_example"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True, text=True, timeout=120)
    return target


def scottbench(site: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])}
    program = "import sys; from scottbench.cli import main; main(sys.argv[1:])"
    return subprocess.run([sys.executable, "-P", "-c", program, *arguments], env=environment, capture_output=True, text=True, timeout=60)


def test_a_third_party_package_is_listed_with_its_name_and_version(site):
    rows = json.loads(scottbench(site, "list", "methods", "--json").stdout)
    (row,) = [row for row in rows if row["name"] == "ddim-eta"]
    assert (row["package"], row["version"], row["plugin"], row["status"]) == ("scottbench-example", "0.3", "example", "ok")


def test_a_third_party_package_is_shown_with_its_options_and_file(site):
    shown = json.loads(scottbench(site, "show", "method", "ddim-eta", "--json").stdout)
    assert shown["file"] == str(site / "scottbench_example" / "ddim_eta.py")
    assert shown["options"] == [{"name": "eta", "default": 1.0, "type": "a number", "doc": "0 is the ODE step, 1 the ancestral step."}]


def test_a_third_party_method_samples_a_distribution_of_one_point_exactly(site, monkeypatch):
    """Data that is the point 0 has x0 = 0, eps = z / sigma: the ODE (eta = 0) only shrinks z_T, eta = 1 draws anew."""
    import torch

    from scottbench.diffusion import Schedule
    from scottbench.registry.nouns import Sampling

    monkeypatch.syspath_prepend(str(site))
    from scottbench_example import Options, register_methods

    (method,) = register_methods()
    schedule = Schedule.scaled_linear()

    def noise(k):
        return torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(k))

    def denoise(z, t):
        return torch.zeros_like(z), z / schedule.sigma(t)

    first = method.timesteps(schedule, 8, Options())[0]
    expected = schedule.sigma(0) / schedule.sigma(first) * noise(0)
    ode = method.sample(Sampling(denoise, noise, schedule, 8, Options(0.0)))
    torch.testing.assert_close(ode, expected, rtol=1e-4, atol=1e-7)
    ancestral = method.sample(Sampling(denoise, noise, schedule, 8, Options(1.0)))
    assert abs(ancestral.std() / schedule.sigma(0) - 1) < 0.15
    assert abs(torch.corrcoef(torch.stack([ancestral.flatten(), expected.flatten()]))[0, 1]) < 0.3
