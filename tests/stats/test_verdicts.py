"""Claims: their TOML files, which cells they mean, and the five verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_run import influence, made_run, two_methods

from scottbench.errors import UsageError
from scottbench.registry.claims import read_claim
from scottbench.registry.loader import load_plugins
from scottbench.stats.measured import read_measured
from scottbench.stats.verdicts import VERDICTS, judge

HEAD = """
name = "x"
paper = "A paper, arXiv 1234.56789"
version = "v1"
locator = "abstract"
statement = "scott beats cd"
"""
BEATS = """
[[compare]]
metric = "{metric}"
better = {{ method = "{better}", steps = 2 }}
worse = {{ method = "{worse}", steps = 2 }}
"""
QUOTED = 'quoted = {{ better = {better}, worse = {worse}, n = {n}, dataset = "d", source = "s", confidence = "A" }}\n'


def claim_of(tmp_path: Path, text: str):
    path = tmp_path / "claim.toml"
    path.write_text(text)
    return read_claim(path)


def verdict(tmp_path: Path, run: Path | list, text: str) -> dict:
    runs = run if isinstance(run, list) else [run]
    (found,) = judge([claim_of(tmp_path, text)], [one for folder in runs for one in read_measured(folder)])
    assert found["verdict"] in VERDICTS
    return found


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "better", "worse", "expected"),
    [
        ("fid", "scott", "cd", "direction holds"),
        ("fid", "cd", "scott", "contradicted"),
        ("clip_score", "scott", "cd", "inconclusive"),
        ("fid", "scott", "instaflow", "not testable here"),
        ("density", "scott", "cd", "not testable here"),
    ],
)
def test_the_verdict_is_where_the_paired_interval_lies(tmp_path, metric, better, worse, expected):
    found = verdict(tmp_path, two_methods(tmp_path / "run"), HEAD + BEATS.format(metric=metric, better=better, worse=worse))
    assert found["verdict"] == expected
    if expected != "not testable here":
        (evidence,) = found["evidence"]
        none_inside = evidence["ci_low"] <= 0 <= evidence["ci_high"]
        assert none_inside == (expected == "inconclusive") == (evidence["p"] > 0.05)
        assert evidence["n"] == 400 and f"(pocket features) of {better}@2 against {worse}@2" in evidence["text"]


def test_an_inconclusive_claim_says_how_many_images_would_decide(tmp_path):
    found = verdict(tmp_path, two_methods(tmp_path / "run"), HEAD + BEATS.format(metric="clip_score", better="scott", worse="cd"))
    (evidence,) = found["evidence"]
    assert evidence["images_to_decide"] > 400 and found["reason"].endswith("images would decide")


def test_what_is_absent_is_named(tmp_path):
    found = verdict(tmp_path, two_methods(tmp_path / "run"), HEAD + BEATS.format(metric="fid", better="scott", worse="instaflow"))
    assert found["reason"] == "no fid with an interval of instaflow@2 in this run" and found["evidence"] == []


def test_every_comparison_of_a_claim_must_hold(tmp_path):
    run = two_methods(tmp_path / "run")
    holds, open_, against, absent = (
        BEATS.format(metric=metric, better=better, worse=worse)
        for metric, better, worse in (
            ("fid", "scott", "cd"), ("clip_score", "scott", "cd"), ("fid", "cd", "scott"), ("fid", "scott", "ufogen"))
    )  # fmt: skip
    assert verdict(tmp_path, run, HEAD + holds + holds)["verdict"] == "direction holds"
    assert verdict(tmp_path, run, HEAD + holds + open_)["verdict"] == "inconclusive"
    assert verdict(tmp_path, run, HEAD + holds + absent)["verdict"] == "not testable here"
    assert verdict(tmp_path, run, HEAD + open_ + absent + against)["verdict"] == "contradicted"


@pytest.mark.parametrize(
    ("quoted", "n", "magnitude", "expected"),
    [
        ((21.9, 23.4), 400, ["pocket"], "reproduced"),  # 1.5 was measured
        ((21.9, 21.95), 400, ["pocket"], "reproduced"),  # more than was claimed
        ((21.9, 43.8), 400, ["pocket"], "direction holds"),  # the interval is wholly short of 21.9
        ((21.9, 23.4), 5000, ["pocket"], "direction holds"),  # another N
        ((21.9, 23.4), 400, ["sd15"], "direction holds"),  # another setting
        ((21.9, 23.4), 400, [], "direction holds"),
    ],
)
def test_reproduced_needs_the_quoted_size_in_the_paper_s_own_setting(tmp_path, quoted, n, magnitude, expected):
    run = two_methods(tmp_path / "run")
    text = HEAD + f"magnitude = {magnitude}\n" + BEATS.format(metric="fid", better="scott", worse="cd")
    found = verdict(tmp_path, run, text + QUOTED.format(better=quoted[0], worse=quoted[1], n=n).replace("{{", "{").replace("}}", "}"))
    assert found["verdict"] == expected
    assert found["quoted"][0]["better"] == quoted[0]


def test_a_claim_for_other_presets_is_not_tested(tmp_path):
    text = HEAD + 'testable = ["sd15"]\n' + BEATS.format(metric="fid", better="scott", worse="cd")
    found = verdict(tmp_path, two_methods(tmp_path / "run"), text)
    assert (found["verdict"], found["reason"]) == ("not testable here", "it can be judged on preset sd15, not on pocket")


def test_a_ratio_is_judged_against_one_at_every_number_of_steps_that_both_have(tmp_path):
    cells = {("scott", 1): 0.6, ("scott", 2): 0.7, ("cd", 1): 0.5, ("cd", 2): 0.55, ("cd", 4): 0.9}
    values = {(*cell, 0): {"coverage": (value, influence(own, 0.4))} for own, (cell, value) in enumerate(cells.items())}
    text = HEAD + '[[compare]]\nmetric = "coverage"\nbetter = { method = "scott" }\nworse = { method = "cd" }\neffect = "ratio"\n'
    found = verdict(tmp_path, made_run(tmp_path / "run", values), text)
    assert found["verdict"] == "direction holds"
    assert [evidence["estimate"] for evidence in found["evidence"]] == pytest.approx([1.2, 0.7 / 0.55])
    assert all(evidence["ci_low"] > 1 for evidence in found["evidence"])


def test_seeds_are_averaged(tmp_path):
    values = {(method, 2, seed): {"fid": (value + seed, influence(own + seed, 20.0))}
              for own, (method, value) in enumerate([("scott", 70.0), ("cd", 71.5)]) for seed in (0, 1)}  # fmt: skip
    found = verdict(tmp_path, made_run(tmp_path / "run", values), HEAD + BEATS.format(metric="fid", better="scott", worse="cd"))
    assert found["evidence"][0]["seeds"] == [0, 1] and found["evidence"][0]["value_better"] == 70.5


def test_a_value_at_zero_has_no_ratio_and_is_not_testable(tmp_path):
    values = {("scott", 2, 0): {"coverage": (0.5, influence(1, 0.4))}, ("cd", 2, 0): {"coverage": (0.0, influence(2, 0.4))}}
    text = HEAD + BEATS.format(metric="coverage", better="scott", worse="cd") + 'effect = "ratio"\n'
    found = verdict(tmp_path, made_run(tmp_path / "run", values), text)
    assert found["verdict"] == "not testable here" and "above 0" in found["reason"]


# --- ablations --------------------------------------------------------------------------------------------------------

ABLATION = """
[[compare]]
metric = "fid"
better = { method = "scott", student = { h = 3 } }
worse = { method = "scott", student = { h = 1 } }
"""


def student_run(folder: Path, own: int, value: float, updates: int = 100, **options) -> Path:
    facts = {"trainer": "scott", "options": {"h": 3, "lr": 1e-4, **options}, "steps": updates, "batch_size": 32}
    return made_run(folder, {("scott", 2, 0): {"fid": (value, influence(own, 20.0))}}, students={"scott": facts})


def test_an_ablation_is_judged_over_two_runs_whose_students_differ_in_that_option_alone(tmp_path):
    runs = [student_run(tmp_path / "a", 1, 70.0), student_run(tmp_path / "b", 2, 71.5, h=1)]
    found = verdict(tmp_path, runs, HEAD + ABLATION)
    assert found["verdict"] == "direction holds"
    found = verdict(tmp_path, runs[0], HEAD + ABLATION)
    assert found["verdict"] == "not testable here" and "scott[h=1]" in found["reason"]


@pytest.mark.parametrize(("change", "words"), [({"updates": 90}, "steps (100, 90)"), ({"lr": 1e-3}, "option lr (0.0001, 0.001)")])
def test_an_ablation_with_another_difference_is_not_testable(tmp_path, change, words):
    runs = [student_run(tmp_path / "a", 1, 70.0), student_run(tmp_path / "b", 2, 71.5, h=1, **change)]
    found = verdict(tmp_path, runs, HEAD + ABLATION)
    assert found["verdict"] == "not testable here" and words in found["reason"]


def ablation_run(folder: Path, students: dict[str, tuple[float, dict]]) -> Path:
    """One run of several students of scott: label -> (FID, options over the base)."""
    base = {"h": 3, "lr": 1e-4}
    facts = {label: {"trainer": "scott", "options": {**base, **options}, "steps": 100} for label, (_, options) in students.items()}
    values = {(label, 2, 0): {"fid": (value, influence(own, 20.0))} for own, (label, (value, _)) in enumerate(students.items())}
    return made_run(folder, values, students=facts)


def test_an_ablation_finds_its_students_within_one_run(tmp_path):
    run = ablation_run(tmp_path / "run", {
        "scott@student=base": (70.0, {}), "scott@student=h1": (75.0, {"h": 1}), "scott@student=hot": (60.0, {"lr": 1e-3}),
    })  # fmt: skip
    (evidence,) = verdict(tmp_path, run, HEAD + ABLATION)["evidence"]
    assert (evidence["better_cell"], evidence["worse_cell"]) == ("scott@student=base@2", "scott@student=h1@2")


def test_an_ablation_must_hold_for_every_couple_that_differs_in_its_options_only(tmp_path):
    students = {"scott@student=a": (70.0, {}), "scott@student=b": (75.0, {"h": 1}),
                "scott@student=c": (72.0, {"lr": 1e-3}), "scott@student=d": (66.0, {"lr": 1e-3, "h": 1})}  # fmt: skip
    found = verdict(tmp_path, ablation_run(tmp_path / "run", students), HEAD + ABLATION)
    assert [one["verdict"] for one in found["evidence"]] == ["direction holds", "contradicted"]
    assert found["verdict"] == "contradicted"


# --- trainings --------------------------------------------------------------------------------------------------------


def trained(folder: Path, fids: dict[str, float], seeds: dict[str, int]) -> Path:
    """Students of one recipe each for scott and cd, trained with several seeds: label -> FID, label -> training seed."""
    facts = {label: {"trainer": label.partition("@")[0], "options": {"h": 3}, "steps": 100, "seed": seeds.get(label, 0)} for label in fids}
    values = {(label, 2, 0): {"fid": (value, influence(own, 20.0))} for own, (label, value) in enumerate(fids.items())}
    return made_run(folder, values, students=facts)


def test_a_claim_about_trainings_is_judged_over_all_of_a_recipe(tmp_path):
    """The pair of shipped students decides; with a second training of each, whose values lie further apart, nothing is decided."""
    claim = HEAD + BEATS.format(metric="fid", better="scott", worse="cd")
    one = verdict(tmp_path, trained(tmp_path / "a", {"scott": 70.0, "cd": 71.5}, {}), claim)
    assert one["verdict"] == "direction holds" and one["evidence"][0]["trainings"] == [1, 1]
    assert "one training each" in one["evidence"][0]["text"]
    fids = {"scott": 70.0, "cd": 71.5, "scott@student=b": 72.5, "cd@student=b": 71.0}
    both = verdict(tmp_path, trained(tmp_path / "b", fids, {"scott@student=b": 1, "cd@student=b": 1}), claim)
    (evidence,) = both["evidence"]
    assert both["verdict"] == "inconclusive" and evidence["trainings"] == [2, 2] and evidence["value_better"] == 71.25
    assert "of scott@2 and scott@student=b@2 against cd@2 and cd@student=b@2" in evidence["text"]
    assert "over 2 and 2 trainings" in evidence["text"]
    assert evidence["images_to_decide"] is None and "more of them are needed" in both["reason"]


def test_a_second_training_in_another_run_counts(tmp_path):
    seconds = {"scott": 1, "cd": 1}
    runs = [trained(tmp_path / "a", {"scott": 70.0, "cd": 71.5}, {}), trained(tmp_path / "b", {"scott": 70.4, "cd": 71.6}, seconds)]
    (evidence,) = verdict(tmp_path, runs, HEAD + BEATS.format(metric="fid", better="scott", worse="cd"))["evidence"]
    assert evidence["trainings"] == [2, 2] and evidence["between_trainings"] > 0


def test_another_recipe_under_the_name_is_no_training_of_the_first(tmp_path):
    run = ablation_run(tmp_path / "run", {"scott": (70.0, {}), "scott@student=hot": (60.0, {"lr": 1e-3}), "cd": (71.5, {})})
    (evidence,) = verdict(tmp_path, run, HEAD + BEATS.format(metric="fid", better="scott", worse="cd"))["evidence"]
    assert evidence["value_better"] == 70.0 and evidence["trainings"] == [1, 1]


def test_students_of_another_recipe_that_were_not_judged_are_named(tmp_path):
    """Beaten or not by them, a verdict on the recipe that goes by the name is none on both."""
    claim = HEAD + BEATS.format(metric="fid", better="scott", worse="cd")
    students = {"scott": (70.0, {}), "cd": (71.5, {}), "cd@student=small": (60.0, {"batch": 32}), "cd@student=hot": (80.0, {"lr": 1e-3})}
    found = verdict(tmp_path, ablation_run(tmp_path / "run", students), claim)
    assert found["verdict"] == "direction holds" and len(found["evidence"]) == 1
    assert found["reason"] == "of another recipe, and not judged: cd@student=small, cd@student=hot"
    same = {"scott": 70.0, "cd": 71.5, "cd@student=b": 71.4}
    assert "another recipe" not in verdict(tmp_path, trained(tmp_path / "same", same, {"cd@student=b": 1}), claim)["reason"]
    alone = ablation_run(tmp_path / "alone", {"scott@student=a": (70.0, {"h": 1}), "cd": (71.5, {})})
    assert "another recipe" not in verdict(tmp_path, alone, claim)["reason"], "the only one goes by the method's name"
    lacking = ablation_run(tmp_path / "lacking", {"cd": (71.5, {}), "cd@student=hot": (80.0, {"lr": 1e-3})})
    assert "another recipe" not in verdict(tmp_path, lacking, claim)["reason"], "nothing was judged"


# --- files ------------------------------------------------------------------------------------------------------------

GOOD = HEAD + BEATS.format(metric="fid", better="a", worse="b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("statement", "statment"), "unknown key 'statment'. Did you mean 'statement'?"),
        (GOOD.replace('version = "v1"\n', ""), "key 'version' is missing"),
        (GOOD.replace('name = "x"', 'name = "x y"'), "may have letters"),
        (GOOD.replace('version = "v1"', "version = 1"), "'version' must be string"),
        (HEAD, "at least one [[compare]]"),
        (GOOD.replace("metric = ", "metrik = "), "[[compare]]: unknown key 'metrik'. Did you mean 'metric'?"),
        (GOOD.replace('{ method = "a", steps = 2 }', '"a"'), "better must be a table"),
        (GOOD.replace('"a", steps = 2', '"a"'), "give steps on both sides or on neither"),
        (GOOD.replace('"a", steps = 2', '"a", step = 2'), "better: unknown key 'step'"),
        (GOOD + 'effect = "quotient"\n', "effect must be one of difference, ratio"),
        (GOOD + 'quoted = { better = 1.0, worse = 2, n = 5, dataset = "d", source = "s", confidence = "D" }\n', "must be one of A, B, C"),
        (GOOD + "quoted = { better = 1.0 }\n", "quoted: key 'worse' is missing"),
        ("name = ", "cannot be read"),
    ],
)
def test_a_claim_with_a_mistake_is_refused_in_one_line(tmp_path, text, words):
    with pytest.raises(UsageError) as caught:
        claim_of(tmp_path, text)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert "claim.toml" in str(caught.value)


def test_scott_s_ten_claims_are_there_with_their_source():
    claims = {name: found.noun for name, found in load_plugins().nouns["claim"].items() if found.plugin == "scott"}
    assert set(claims) == {
        "headline-instaflow", "headline-ufogen", "beats-cd", "more-diverse", "improves-with-steps", "sde-helps", "substeps-help",
        "gan-helps", "lora-disc", "more-diverse-than-ddim",
    }  # fmt: skip
    assert all(claim.paper == "SCott, arXiv 2403.01505" and claim.version and claim.locator for claim in claims.values())
    assert all(Path(found.file).stem == name for name, found in load_plugins().nouns["claim"].items())
    # a size is judged only where the source is sure of it and of its setting
    for claim in claims.values():
        assert not claim.magnitude or all(one.quoted.confidence != "C" for one in claim.compare if one.quoted is not None)


def test_every_option_that_an_ablation_names_is_one_of_its_trainer():
    from scottbench.registry.options import options_of

    plugins = load_plugins()
    for found in plugins.nouns["claim"].values():
        for arm in (arm for one in found.noun.compare for arm in (one.better, one.worse) if arm.student):
            trainer = plugins.find("method", arm.method).noun.trainer
            known = {option.name for option in options_of(plugins.find("trainer", trainer).noun.options)}
            assert set(arm.student) <= known
