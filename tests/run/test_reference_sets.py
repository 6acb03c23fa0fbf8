"""A run whose reference is a set apart from its prompts: what names it, what is compared, and what is kept from run to run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny_plugin
from PIL import Image
from scottbench_folder import register_datasets
from tiny_plugin import PRESET, Dots, tiny_plugins

from scottbench.errors import UsageError
from scottbench.models.extractors import OpenExtractor
from scottbench.plan.plan import make_plan
from scottbench.plan.request import RunRequest
from scottbench.registry.nouns import Dataset, Metric
from scottbench.registry.presets import read_preset
from scottbench.run.chunks import roles_of
from scottbench.run.execute import execute
from scottbench.store.record import read_record
from scottbench.store.verify import verify

quiet = lambda event: None  # noqa: E731
M = 70


def words(cell, options):
    return float((cell.generated["clip"].astype(float) * cell.text["clip"]).sum(1).mean())


class Real:
    """70 images with ids of their own and no captions."""

    ids = tuple(f"real-{number:02d}" for number in range(M))
    prompts = ("",) * M
    digest = "0" * 63 + "7"
    images = Dots.images


class Bare(Dots):
    """Prompts alone."""

    def images(self, indices):
        raise UsageError("there are none")


APART = PRESET.replace('same_as = "image"', 'kind = "open_clip"\nfolder = "evaluator"\nlabel = "another"')
METRICS = [
    Metric("words", "as agreement", words, True, features="clip", reference=False),
    Metric("clip_gap", "gap of clip", lambda cell, options: float(len(cell.reference["clip"])), False, features="clip"),
]


@pytest.fixture(scope="module")
def plugins(files):
    found = tiny_plugins(files, metrics=METRICS)
    nouns = found.nouns["dataset"]
    nouns["folder"] = tiny_plugin.registered("dataset", register_datasets()[0])
    nouns["real"] = tiny_plugin.registered("dataset", Dataset("real", "reference", lambda split: Real()))
    nouns["bare"] = tiny_plugin.registered("dataset", Dataset("bare", "prompts", lambda split: Bare(), reference=None))
    nouns["far"] = tiny_plugin.registered("dataset", Dataset("far", "with another's images", lambda split: Bare(), reference="real"))
    return found


def planned(plugins, **changes):
    asked = {"device": "cpu", "methods": ["ode"], "steps": [1, 2], "metrics": ["gap", "words"], **changes}
    return make_plan(plugins, RunRequest("tiny", **asked))


def test_the_flag_then_the_preset_then_the_dataset_names_the_reference(plugins):
    assert (planned(plugins).reference.own, planned(plugins).reference.n) == (False, 12)
    flag = planned(plugins, reference="real", limit=8)
    assert (flag.n, flag.reference.own, flag.reference.n, flag.reference.name) == (8, True, M, "real")
    assert planned(plugins, dataset="far").reference.name == "real"
    own = planned(plugins, dataset="far", reference="dots")
    assert own.reference.own and own.reference.n == 12  # another dataset's, though the ids are the same
    assert planned(plugins, reference="dots").hash == planned(plugins).hash  # its own, by name


def test_n_and_m_stand_in_fingerprints_and_other_images_are_another_plan(plugins):
    base, apart = planned(plugins), planned(plugins, reference="real")
    assert "n=12; ref=70:" in apart.metrics[0].fingerprint and "ref=12:" in base.metrics[0].fingerprint
    assert apart.hash != base.hash and "reference" not in base.record["dataset"]
    assert apart.record["dataset"]["reference"] == {"name": "real", "n": M, "digest": apart.record["dataset"]["reference"]["digest"]}


def test_a_folder_without_captions_is_a_reference_and_names_that_are_none_are_refused_in_one_line(plugins, tmp_path):
    for k in range(3):
        Image.fromarray(Dots().images([k])[0]).save(tmp_path / f"{k}.png")
    assert planned(plugins, reference=str(tmp_path)).reference.n == 3
    told = {"reel": "did you mean", "./nowhere": "no folder ./nowhere: --reference takes a name", "bare": "prompts alone"}
    for text, words in told.items():
        with pytest.raises(UsageError) as error:
            planned(plugins, reference=text)
        assert words in str(error.value).lower() and "\n" not in str(error.value)


def test_metrics_that_compare_are_refused_of_prompts_alone_and_those_of_the_preset_are_left_out_with_a_line(plugins):
    with pytest.raises(UsageError, match="metric 'gap' compares with reference images, and dataset 'bare' has prompts alone") as error:
        planned(plugins, dataset="bare")
    assert "\n" not in str(error.value)
    assert planned(plugins, dataset="bare", metrics=["words"]).reference is None
    assert planned(plugins, dataset="bare", reference="real").reference.n == M


def test_a_preset_names_its_reference_and_one_of_other_data_does_not_inherit_it(tmp_path, plugins):
    (tmp_path / "a.toml").write_text('reference = "real"\n' + PRESET)
    assert read_preset(tmp_path / "a.toml").reference == "real"
    noun = plugins.nouns["preset"]["tiny"].noun
    plugins.nouns["preset"]["with"] = tiny_plugin.registered("preset", replace(noun, name="with", reference="real"))
    asked = {"device": "cpu", "methods": ["ode"], "steps": [1], "metrics": ["gap"]}
    made = make_plan(plugins, RunRequest("with", **asked))
    assert made.reference.n == M and made.settings["reference"] == {"value": "real", "origin": "preset with"}
    assert not make_plan(plugins, RunRequest("with", dataset="dots", **asked)).reference.own  # the preset's is about its own data


def test_features_of_the_set_are_made_once_and_kept_for_other_runs(plugins, tmp_path, monkeypatch):
    monkeypatch.setenv("SCOTTBENCH_CACHE", str(tmp_path / "cache"))
    seen, features = [], OpenExtractor.features
    monkeypatch.setattr(OpenExtractor, "features", lambda self, images, *more: seen.append(len(images)) or features(self, images, *more))
    first = execute(planned(plugins, reference="real"), plugins, tmp_path / "one", None, quiet)
    assert sorted(seen) == [6, 12, 12, 64]
    seen.clear()
    second = execute(planned(plugins, reference="real", steps=[2]), plugins, tmp_path / "two", None, quiet)
    assert seen == [12]  # the cell alone
    chunk = "features/reference/image/00064-00069.npy"
    assert (first / chunk).read_bytes() == (second / chunk).read_bytes()
    kept = next((tmp_path / "cache").glob("references/*/features/reference/set/00064-00069.npy"))
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    seen.clear()
    third = execute(planned(plugins, reference="real", steps=[2]), plugins, tmp_path / "three", None, quiet)
    assert sorted(seen) == [6, 12] and (third / chunk).read_bytes() == (first / chunk).read_bytes()
    assert not verify(first).wrong and not verify(second).wrong
    record = read_record(first)
    assert {row["n"] for row in record.pairs} == {12}  # paired over prompts
    page = (first / "report" / "index.html").read_text()
    assert "against M = 70 images of real, N = 12" in page


def test_reference_features_of_a_network_are_made_only_for_a_metric_that_compares_by_it(files, tmp_path):
    found = tiny_plugins(files, metrics=METRICS, preset=APART)
    assert roles_of(planned(found), "reference") == ["image"] and roles_of(planned(found), "ode-1") == ["image", "clip"]
    assert roles_of(planned(found, metrics=["gap", "clip_gap"]), "reference") == ["image", "clip"]
    folder = execute(planned(found, steps=[1]), found, tmp_path / "run", None, quiet)
    assert not (folder / "features" / "reference" / "clip").exists() and (folder / "features" / "text" / "clip").is_dir()
    assert not verify(folder).wrong
    (folder / "manifest.json").unlink()  # as of a run that was stopped
    assert not [line for line in verify(folder).wrong if "clip" in line]
