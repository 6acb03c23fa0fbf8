"""A plan: names, options, guidance, weights and data resolved and verified before anything is written; its hash is its identity."""

import dataclasses
import json
import shutil

import pytest
import tiny
from tiny_plugin import METHODS, PRESET, Dots, tiny_plugins

from scottbench.errors import DamagedAsset, MissingAsset, UsageError
from scottbench.models.student import sealed
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry.nouns import Method, Metric


def plan(plugins, **changes):
    return make_plan(plugins, RunRequest(**{"preset": "tiny", "device": "cpu", **changes}))


def scales(found):
    return {cell.method.label: cell.method.guidance for cell in found.cells}


def test_the_preset_gives_what_the_user_does_not(plugins):
    found = plan(plugins)
    assert [cell.id for cell in found.cells] == ["ode__s2__seed0", "hop__s2__seed0"]
    assert [metric.label for metric in found.metrics] == ["gap", "agreement"] and found.n == 12
    assert found.roles == {"image": "image", "clip": "image"} and list(found.sources) == ["image"]
    assert found.cells[0].timesteps == [999, 499]


def test_cells_are_methods_times_steps_in_the_order_asked_for(plugins):
    found = plan(plugins, methods=["hop", "ode"], steps=[4, 1], seeds=[3])
    assert [cell.id for cell in found.cells] == ["hop__s4__seed3", "hop__s1__seed3", "ode__s4__seed3", "ode__s1__seed3"]


def test_guidance_is_the_users_else_the_presets_else_the_methods(plugins):
    assert scales(plan(plugins)) == {"ode": 3.0, "hop": 2.5}
    assert scales(plan(plugins, guidance=1.5)) == {"ode": 1.5, "hop": 1.5}
    assert scales(plan(plugins, guidance=1.5, methods=["ode", "ode@guidance=7", "hop"])) == {"ode": 1.5, "ode@guidance=7": 7.0, "hop": 1.5}


def test_the_hash_covers_what_can_change_a_number(plugins):
    base = plan(plugins).hash
    changes = [{"methods": ["ode"]}, {"methods": ["hop", "ode"]}, {"steps": [1]}, {"metrics": ["gap"]}, {"limit": 11}, {"seeds": [1]}]
    changes += [{"guidance": 2.0}, {"seeds": [0, 1]}]
    hashes = [plan(plugins, **change).hash for change in changes]
    assert len({base, *hashes}) == len(changes) + 1


def test_the_hash_covers_nothing_else(plugins, files, tmp_path):
    base = plan(plugins)
    assert plan(plugins, command="other words").hash == base.hash
    shutil.copytree(files, tmp_path / "moved")
    moved = plan(tiny_plugins(tmp_path / "moved"))
    assert moved.record == base.record and moved.hash == base.hash
    assert str(files) not in json.dumps(base.record)
    assert plan(plugins, students={"hop": str(tmp_path / "moved" / "student")}).hash == base.hash


def test_other_weights_are_another_plan(files, tmp_path):
    shutil.copytree(files, tmp_path / "other")
    base, changed = plan(tiny_plugins(files)), tmp_path / "other"
    tiny.tiny_evaluator(changed / "evaluator", seed=5)
    assert plan(tiny_plugins(changed)).hash != base.hash
    assert plan(tiny_plugins(changed)).metrics[0].fingerprint != base.metrics[0].fingerprint


def test_a_fingerprint_names_metric_extractor_rule_n_and_reference(plugins):
    full, part = plan(plugins).metrics[0].fingerprint, plan(plugins, limit=5).metrics[0].fingerprint
    digest = plan(plugins).sources["image"].digest[:8]
    for part_of_it in ("gap()", f"tiny features {digest}", "resize clean", "n=12", "ref=12:"):
        assert part_of_it in full
    assert "n=5" in part and "ref=5:" in part and part.split(":")[-1] != full.split(":")[-1]


@pytest.mark.parametrize(("changes", "message"), [
    ({"preset": "tinny"}, "unknown preset 'tinny'.*'tiny'"),
    ({"methods": ["hopp"]}, "unknown method 'hopp'.*'hop'"),
    ({"methods": ["gap"]}, "'gap' is a metric: use --metrics gap"),
    ({"metrics": ["gapp"]}, "unknown metric 'gapp'.*'gap'"),
    ({"metrics": []}, "no metrics"),
    ({"methods": ["ode", "ode@guidance=2", "ode@guidance=2 "]}, "named twice"),
    ({"methods": ["ode@eta=1"]}, "no option 'eta'"),
    ({"options": {"eta": "1"}}, "no method of this run has an option 'eta'"),
    ({"methods": ["ode@guidance=high"]}, "guidance scale must be a number"),
    ({"guidance": -1.0}, "guidance scale"),
    ({"guidance": float("nan")}, "guidance scale"),
    ({"steps": [0]}, "--steps 0: .*at least 1"),
    ({"steps": [2, -1]}, "--steps -1"),
    ({"steps": [1001]}, "--steps 1001: method 'ode'"),
    ({"steps": [60]}, "cannot do that. It can do 1 to 50 steps"),
    ({"limit": 0}, "--limit 0"),
    ({"limit": 13}, "--limit 13: .*has 12 items; allowed: 1 to 12"),
    ({"device": "tpu"}, "--device tpu"),
    ({"device": "cuda:99"}, "--device cuda:99.*--device cpu"),
    ({"model": "tinny"}, "unknown model 'tinny'"),
    ({"methods": ["ode"], "students": {"hop": "x"}}, "no method of this run"),
    ({"students": {"hoop": "x"}}, "unknown trainer 'hoop'.*Did you mean 'hop'"),
    ({"methods": ["hop@student=long"]}, "no student goes by the name 'long'.*--student long=FOLDER"),
    ({"methods": ["ode@student=long"], "students": {"lon": "x"}}, "no student goes by the name 'long'"),
    ({"methods": ["hop@steps=0"]}, "hop@steps=0: a number of sampling steps must be a whole number of at least 1"),
    ({"methods": ["hop@steps=two"]}, "hop@steps=two: a number"),
    ({"methods": ["hop", "hop@steps=3"]}, "method 'hop' is named twice"),
    ({"methods": ["hop@steps=3", "hop@steps= 3"]}, "method 'hop' is named twice"),
    ({"methods": ["ode@steps=60"]}, "--steps 60: method 'ode' cannot do that. It can do 1 to 50 steps"),
])  # fmt: skip
def test_what_cannot_be_meant_is_a_usage_error(plugins, changes, message):
    with pytest.raises(UsageError, match=message):
        plan(plugins, **changes)


def test_a_step_count_that_a_method_or_its_student_was_not_made_for_is_a_warning(files, tmp_path):
    """Named once per cell; a student's own counts go before the method's; no counts mean any."""
    narrow = dataclasses.replace(METHODS[0], name="narrow", made_for=(1, 2, 4))
    taught = dataclasses.replace(METHODS[1], name="taught", made_for=(3,))
    plugins = tiny_plugins(files, methods=[narrow, taught])
    assert plan(plugins, steps=[1, 2, 5]).warnings == []
    assert plan(plugins, methods=["narrow"], steps=[1, 2, 4]).warnings == []
    found = plan(plugins, methods=["ode", "narrow"], steps=[3, 4, 8])
    assert found.warnings == [f"method 'narrow' was made for 1, 2, 4 steps, not for {n}." for n in (3, 8)]
    shutil.copytree(files / "student", tmp_path / "student")
    facts = json.loads((tmp_path / "student" / "student.json").read_text()) | {"made_for": [1, 2, 3]}
    (tmp_path / "student" / "student.json").write_text(json.dumps(sealed(facts)))
    found = plan(plugins, methods=["taught"], steps=[3, 4], students={"hop": str(tmp_path / "student")})
    assert found.warnings == ["the student of method 'taught' was made for 1 to 3 steps, not for 4."]


def test_a_method_may_have_steps_of_its_own(plugins):
    """They are a column of every table, so that they are no part of what the method is called."""
    found = plan(plugins, methods=["ode@steps=5", "hop", "ode@steps=8", "hop@guidance=2,steps=3"], steps=[1, 2])
    assert [(cell.method.label, cell.steps) for cell in found.cells] == [
        ("ode", 5), ("ode", 8), ("hop", 1), ("hop", 2), ("hop@guidance=2", 3)]  # fmt: skip
    assert plan(plugins, methods=["ode@steps=2"]).hash == plan(plugins, methods=["ode"], steps=[2]).hash


def test_several_students_of_one_trainer_stand_side_by_side(plugins, files, tmp_path):
    other = shutil.copytree(files / "student", tmp_path / "other")
    tiny.tiny_student(other, "hop", plan(plugins).model.digest, seed=7)
    found = plan(plugins, methods=["hop", "hop@student=long"], students={"long": str(other)})
    first, second = found.record["cells"]
    assert (first["method"], second["method"]) == ("hop", "hop@student=long")
    assert first["weights_digest"] != second["weights_digest"] == json.loads((other / "student.json").read_text())["weights_digest"]
    assert str(tmp_path) not in json.dumps(found.record)
    swapped = plan(plugins, methods=["hop", "hop@student=long"], students={"hop": str(other), "long": str(files / "student")})
    assert [cell["weights_digest"] for cell in swapped.record["cells"]] == [second["weights_digest"], first["weights_digest"]]
    with pytest.raises(MissingAsset, match="student.json is missing"):
        plan(plugins, methods=["hop@student=long"], students={"long": str(tmp_path / "none")})


def test_the_device_auto_is_the_presets_choice_and_is_part_of_the_identity(plugins, files, monkeypatch):
    assert plan(plugins, device="auto").device == "cpu"
    free = tiny_plugins(files, preset='device = "auto"\n' + PRESET)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert plan(free, device="auto").hash == plan(plugins).hash


def test_any_pipeline_folder_can_be_the_model(plugins, files, tmp_path):
    base = plan(plugins, methods=["ode"])
    found = plan(plugins, methods=["ode"], model=str(files / "model"))
    assert found.record["model"] == {"name": "model", "digest": base.record["model"]["digest"], "unsafe": []}
    with pytest.raises(MissingAsset, match="no folder ./nothing"):
        plan(plugins, model="./nothing")
    with pytest.raises(DamagedAsset, match="distilled from a teacher"):
        plan(plugins, model=str(tiny.tiny_pipeline(tmp_path / "other", seed=9)))


def test_everything_that_is_missing_is_named_at_once(files, tmp_path):
    for name in ("model", "evaluator", "student"):
        shutil.copytree(files / name, tmp_path / name)
    shutil.copy(files / "preset.toml", tmp_path)
    plugins = tiny_plugins(tmp_path)
    shutil.rmtree(tmp_path / "model" / "unet")
    (tmp_path / "evaluator" / "open_clip_config.json").unlink()
    (tmp_path / "student" / "student.json").unlink()
    with pytest.raises(MissingAsset) as caught:
        plan(plugins)
    assert caught.value.exit_code == 3
    for word in ("unet missing", "open_clip_config.json", "student.json"):
        assert word in str(caught.value)


def test_a_student_with_other_weights_than_it_says_is_refused(files, tmp_path):
    student = shutil.copytree(files / "student", tmp_path / "student")
    weights = student / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DamagedAsset, match="digest"):
        plan(tiny_plugins(files), students={"hop": str(student)})


def test_a_method_without_a_student_says_how_to_make_one(files):
    plugins = tiny_plugins(files, preset=PRESET.replace('hop = "student"', ""))
    with pytest.raises(MissingAsset, match="scottbench train hop --preset tiny; then add --student hop=FOLDER"):
        plan(plugins)


def test_a_metric_without_its_extractor_is_refused(files):
    depth = Metric("depth", "", lambda cell, options: 0.0, higher_is_better=True, features="depth")
    with pytest.raises(UsageError, match="metric 'depth' needs an extractor 'depth', which preset 'tiny' lacks"):
        plan(tiny_plugins(files, metrics=[depth]), metrics=["depth"])


def test_a_fingerprint_names_the_prefix_of_prompts_and_the_plan_changes_with_it(files, plugins):
    prefixed = plan(tiny_plugins(files, preset=PRESET.replace('label = "tiny features"', 'label = "tiny features"\nprefix = "a photo of"')))
    assert "prefix 'a photo of'" in prefixed.metrics[1].fingerprint and "prefix" not in plan(plugins).metrics[1].fingerprint
    assert prefixed.hash != plan(plugins).hash


def test_an_extractor_that_is_the_same_as_another_has_no_keys_of_its_own(files):
    text = PRESET.replace('same_as = "image"', 'same_as = "image"\nprefix = "a photo of"')
    assert "cannot have 'prefix' of its own" in str(tiny_plugins_error(files, text))


def tiny_plugins_error(files, preset: str) -> str:
    with pytest.raises(AssertionError) as caught:  # a preset that cannot be read makes its plug-in BROKEN
        tiny_plugins(files, preset=preset)
    return str(caught.value)


def test_a_metric_over_several_seeds_is_refused_where_there_is_one(files):
    spread = Metric("spread", "", lambda cells, options: 0.0, higher_is_better=True, scope="seeds")
    with pytest.raises(UsageError, match="this run has one, 0. Run with --seeds 0,1, or leave it out"):
        plan(tiny_plugins(files, metrics=[spread]), metrics=["spread"])


def test_a_metric_of_images_needs_no_extractor(files):
    bright = Metric("bright", "", lambda cell, options: 0.0, higher_is_better=True, features="")
    found = plan(tiny_plugins(files, metrics=[bright]), metrics=["bright"])
    assert found.sources == {} and "resize" not in found.metrics[0].fingerprint and "n=12" in found.metrics[0].fingerprint


def test_an_item_without_a_prompt_is_refused(files):
    class Blank(Dots):
        prompts = [*Dots.prompts[:4], " ", *Dots.prompts[5:]]

    with pytest.raises(UsageError, match="1 items without a prompt \\(the first is 'dot-04'\\)"):
        plan(tiny_plugins(files, items=Blank))
    plan(tiny_plugins(files, items=Blank), limit=4)


@pytest.mark.parametrize(("ids", "message"), [(["../up", "b"], "cannot be a file name"), (["a", "a"], "two items of one id")])
def test_ids_must_be_unique_file_names(files, ids, message):
    class Bad(Dots):
        pass

    Bad.ids = ids
    with pytest.raises(UsageError, match=message):
        plan(tiny_plugins(files, items=Bad))


def test_inline_options_reach_the_method_and_its_name_in_tables(files):
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Options:
        eta: float = 0.0

    method = Method("sde", "", METHODS[0].sample, METHODS[0].timesteps, options=Options)
    found = plan(tiny_plugins(files, methods=[method]), methods=["ode", "sde", "sde@eta=0.5"], options={"eta": "0.2"})
    assert [cell.method.options for cell in found.cells[1:]] == [Options(0.2), Options(0.5)]
    assert [cell.id for cell in found.cells] == ["ode__s2__seed0", "sde__s2__seed0", "sde-eta=0.5__s2__seed0"]


def test_recorded_rows_are_read_with_the_plan_and_must_be_some(files):
    with_rows = 'recorded = "rows.json"\n' + PRESET
    with pytest.raises(MissingAsset, match="rows.json"):
        plan(tiny_plugins(files, preset=with_rows))
    rows = {"schema": "scottbench.recorded/1", "source": "reports/x", "version": "0.1", "rows": []}
    (files / "rows.json").write_text(json.dumps({**rows, "rows": [{"method": "ddim"}]}))
    with pytest.raises(DamagedAsset, match=r"recorded rows .*rows.json are none \(rows.0: '\w+' is a required"):
        plan(tiny_plugins(files, preset=with_rows))
    (files / "rows.json").write_text(json.dumps(rows))
    assert plan(tiny_plugins(files, preset=with_rows)).recorded == rows


def test_a_missing_model_card_is_found_before_the_run(files):
    with pytest.raises(MissingAsset, match="card.json"):
        plan(tiny_plugins(files, preset='model_card = "card.json"\n' + PRESET))
