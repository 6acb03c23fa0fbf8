"""Emoji-5K: what the shipped data set promises, and what the loader says of a damaged one."""

import csv
import hashlib
import os
import shutil
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from scottbench_pocket.build import emoji5k as build
from scottbench_pocket.build import emoji_names, emoji_split
from scottbench_pocket.emoji5k import SHIPPED, Emoji5K

from scottbench.errors import DamagedAsset, MissingAsset, UsageError

NPM = Path(os.environ.get("SCOTTBENCH_NPM", "npm"))


@pytest.fixture(scope="module")
def rows():
    with open(SHIPPED / "items.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def evaluation():
    return Emoji5K("evaluation")


@pytest.fixture
def copy(tmp_path):
    """The files of the evaluation split in a folder of their own, to be damaged."""
    for name in ("items.csv", "evaluation.zip", "digests.json"):
        shutil.copy(SHIPPED / name, tmp_path / name)
    return tmp_path


def test_evaluation_split_has_5000_items_and_at_most_40_percent_variants(rows):
    held = [row for row in rows if row["split"] == "evaluation"]
    assert len(held) == 5000
    assert sum(row["variant"] != "none" for row in held) <= 2000


def test_styles_are_held_out_in_proportion_to_their_size(rows):
    """Within each of variants and non-variants, no family's share of the evaluation split is off by over 1 point."""
    for is_variant in (False, True):
        group = [row for row in rows if (row["variant"] != "none") == is_variant]
        held = [row for row in group if row["split"] == "evaluation"]
        whole, part = (Counter(row["family"] for row in some) for some in (group, held))
        for family in whole:
            assert abs(whole[family] / len(group) - part[family] / len(held)) < 0.01, family


def test_splits_share_no_pair_and_no_picture(rows):
    assert {row["split"] for row in rows} == {"train", "evaluation"}
    assert len({(row["family"], row["concept"]) for row in rows}) == len(rows)
    assert len({row["caption"] for row in rows}) == len(rows)
    assert len({row["sha256"] for row in rows}) == len(rows)


def test_every_held_out_concept_is_in_training_in_another_style(rows):
    styles = defaultdict(set)
    for row in rows:
        if row["split"] == "train":
            styles[row["concept"]].add(row["family"])
    assert all(styles[row["concept"]] - {row["family"]} for row in rows if row["split"] == "evaluation")


def test_one_code_point_sequence_reads_the_same_in_every_family(rows):
    concepts, sequences = defaultdict(set), defaultdict(set)
    style_of = {family.id: family.style for family in emoji_names.FAMILIES}
    for row in rows:
        concepts[row["code_points"]].add(row["concept"])
        sequences[row["concept"]].add(row["code_points"])
        assert row["caption"] == f"{style_of[row['family']]} emoji of {row['concept']}"
        assert row["id"] == f"{row['family']}-{row['code_points']}"
    assert all(len(found) == 1 for found in (concepts | sequences).values())


def test_the_same_sign_is_named_alike_in_all_six_styles(rows):
    """Families name their icons differently; these captions would differ if icon names leaked into them."""
    caption = {row["id"]: row["caption"] for row in rows}
    for family in emoji_names.FAMILIES:
        assert caption[f"{family.id}-1f34e"] == f"{family.style} emoji of red apple"
        assert caption[f"{family.id}-1f44b-1f3fd"] == f"{family.style} emoji of waving hand medium skin tone"
    assert caption["emojione-1f1eb-1f1f7"] == "emojione emoji of flag france"
    assert caption["twemoji-1f1e8-1f1ee"] == "twemoji emoji of flag cote divoire"


def test_words_are_plain(rows):
    assert all(row["caption"].isascii() and row["caption"] == emoji_names.plain(row["caption"]) for row in rows)


def test_ids_are_unique_sorted_and_safe_as_file_names(rows):
    ids = [row["id"] for row in rows]
    assert ids == sorted(set(ids))
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in ids)


@pytest.mark.parametrize("split", ["evaluation", "train"])
def test_decoded_pictures_are_the_rendered_ones_and_decode_within_seconds(split):
    items = Emoji5K(split)
    start = time.process_time()
    pictures = items.images()
    assert time.process_time() - start < 8, "5,000 pictures took 0.9 s of processor time when this bound was set"
    assert pictures.shape == (len(items), 64, 64, 3) and pictures.dtype == "uint8"
    found = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures]
    assert found == [row["sha256"] for row in items.rows]


def test_pictures_come_in_the_order_asked_for(evaluation):
    assert (evaluation.images([7, 3, 7]) == evaluation.images(range(8))[[7, 3, 7]]).all()


def test_digest_names_captions_and_pictures(evaluation, copy):
    same = Emoji5K("evaluation", copy)
    assert same.digest == evaluation.digest != Emoji5K("train").digest
    del same.digest
    same.rows[0]["caption"] += " blue"
    assert same.digest != evaluation.digest


def test_everything_together_is_at_most_26_megabytes():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= 26e6


def test_every_family_ships_its_licence(rows):
    for family in {row["family"] for row in rows}:
        assert (SHIPPED / "LICENSES" / f"{family}.txt").stat().st_size > 300
        assert f"## {family}\n" in (SHIPPED / "ATTRIBUTION.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["items.csv", "evaluation.zip", "digests.json"])
def test_a_truncated_file_is_damaged_and_named(copy, name):
    path = copy / name
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DamagedAsset, match=name):
        Emoji5K("evaluation", copy)


def test_one_changed_byte_is_damage(copy):
    data = bytearray((copy / "evaluation.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "evaluation.zip").write_bytes(data)
    with pytest.raises(DamagedAsset, match=r"evaluation\.zip"):
        Emoji5K("evaluation", copy)


def test_an_archive_that_changes_after_opening_is_damage(copy):
    items = Emoji5K("evaluation", copy)
    (copy / "evaluation.zip").write_bytes(b"")
    with pytest.raises(DamagedAsset, match=r"evaluation\.zip"):
        items.images([0])


@pytest.mark.parametrize("name", ["items.csv", "evaluation.zip", "digests.json"])
def test_an_absent_file_is_missing_and_the_message_says_what_to_do(copy, name):
    (copy / name).unlink()
    with pytest.raises(MissingAsset, match=rf"(?s){name}.*pip install") as error:
        Emoji5K("evaluation", copy)
    assert not isinstance(error.value, DamagedAsset)


def test_an_unknown_split_is_a_usage_error_that_names_the_splits():
    with pytest.raises(UsageError, match="evaluation, train"):
        Emoji5K("test")


@pytest.mark.parametrize(
    ("sequence", "kind"),
    [
        ("1f34e", "none"),
        ("1f44b-1f3fd", "skin-tone"),
        ("1f3fd", "skin-tone"),
        ("1f6b6-200d-2642", "gender"),
        ("1f469-200d-1f373", "gender"),
        ("1f469", "none"),
        ("1f9d1-200d-1f373", "none"),
        ("2640", "none"),
    ],
)
def test_variants(sequence, kind):
    assert emoji_split.variant(sequence) == kind


def test_split_is_the_documented_function_of_the_items(rows):
    """The order of the items does not matter, and no concept loses its last picture in training."""
    again = emoji_split.evaluation_ids(rows[::-1])
    assert again == {row["id"] for row in rows if row["split"] == "evaluation"}


def test_build_without_packages_says_what_to_fetch(tmp_path, capsys):
    assert build.main(["--npm", str(tmp_path), "--out", str(tmp_path / "out")]) == 3
    assert "npm pack @iconify-json/noto@1.2.9" in capsys.readouterr().err


def test_build_from_npm_gives_the_shipped_pictures_byte_for_byte(rows):
    """30 items a family; other versions of resvg or libwebp may draw or pack otherwise, and the test then says so."""
    if build.missing_packages(NPM):
        pytest.skip(f"the pinned npm packages are not in {NPM}; point SCOTTBENCH_NPM at them")
    pytest.importorskip("resvg_py", reason="resvg-py (extra `build`) is not installed")
    items, _, _ = build.rasterise(build.collect(NPM, limit=30)[0], processes=1)
    shipped = {row["id"]: row for row in rows}
    archives = {split: build.zipfile.ZipFile(SHIPPED / f"{split}.zip") for split in build.SPLITS}
    # of equal pictures the sample may hold one that the whole set drops
    items = [item for item in items if item["id"] in shipped]
    assert len(items) > 150
    for item in items:
        row = shipped[item["id"]]
        assert {key: item[key] for key in build.COLUMNS if key != "split"} == {key: row[key] for key in build.COLUMNS if key != "split"}
        assert archives[row["split"]].read(f"{item['id']}.webp") == item["webp"]


def test_written_files_do_not_depend_on_the_day(tmp_path, monkeypatch):
    picture = build.np.zeros((64, 64, 3), "uint8")
    item = {"id": "noto-31", "webp": build.webp(picture)}
    build.write_archive(tmp_path / "a.zip", [item])
    monkeypatch.setattr(time, "localtime", lambda *_: time.struct_time((2031, 5, 6, 7, 8, 9, 1, 126, 0)))
    build.write_archive(tmp_path / "b.zip", [item])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
