"""What the manifest says of a metric."""

from types import SimpleNamespace

from scottbench.plan.cells import PlannedMetric
from scottbench.registry.nouns import Metric
from scottbench.run.manifest import metric_entry

PLAN = SimpleNamespace(sources={"image": SimpleNamespace(label="tiny features")}, roles={"image": "image"})


def record(label: str, /, **fields) -> dict:
    noun = Metric(label.partition("@")[0], "a sum", lambda cell, options: 0.0, higher_is_better=True, **fields)
    return dict(vars(metric_entry(PlannedMetric(label, noun, None, "fingerprint"), PLAN)))


def test_two_columns_of_one_metric_are_told_apart_by_their_options():
    found = [record(label, label="Share") for label in ("share", "share@k=3", "share@k=3,q=1")]
    assert [entry["label"] for entry in found] == ["Share", "Share (k=3)", "Share (k=3,q=1)"]
    assert [entry["name"] for entry in found] == ["share", "share@k=3", "share@k=3,q=1"]
    assert record("share@k=3")["label"] == "share (k=3)"


def test_a_metric_of_images_has_no_extractor():
    assert record("share", features="")["extractor_label"] == "" and record("share")["extractor_label"] == "tiny features"
