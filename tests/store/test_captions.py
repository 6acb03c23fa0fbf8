"""Captions that anybody wrote: every form that is read, and one line for each that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scottbench.errors import UsageError
from scottbench.store.captions import Caption, find_captions, read_captions


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


COCO = {
    "images": [{"id": "b", "file_name": "x/b.jpg"}, {"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "c.jpg"}],
    "annotations": [
        {"image_id": "7", "id": 30, "caption": "later"}, {"image_id": 7.0, "id": "4", "caption": " a \n cat "},
        {"image_id": "b", "caption": "a  dog"}, {"image_id": "b", "caption": "second"}, {"image_id": 9, "id": 1, "caption": "  "},
    ],
}  # fmt: skip
BOTH = [Caption("a dog", file="x/b.jpg"), Caption("a cat", file="a.jpg")]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("c.csv", "\ufefffile,caption\r\nx/b.jpg,a dog\r\na.jpg,\"a  cat\n\"\r\n", BOTH),
        ("c.tsv", "image\ttext\nx/b.jpg\ta dog\na.jpg\ta cat\n", BOTH),
        ("c.csv", "Prompt,ID\na dog,1\na cat,2\n", [Caption("a dog", id="1"), Caption("a cat", id="2")]),
        ("c.csv", "caption\na dog\n", [Caption("a dog")]),
        ("c.jsonl", '{"file_name": "x/b.jpg", "text": "a dog"}\n\n{"file_name": "a.jpg", "text": "a cat"}\n', BOTH),
        ("c.json", "\ufeff" + json.dumps(COCO), BOTH),
        ("c.json", '[{"key": 3, "caption": "a dog"}]', [Caption("a dog", id="3")]),
        ("c.txt", "a dog\na cat\n\n", [Caption("a dog"), Caption("a cat")]),
    ],
)
def test_every_form_of_captions_is_read(tmp_path, name, text, expected):
    assert read_captions(written(tmp_path, name, text)) == expected


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.csv", "file,label\na,b\n", "no column is called caption or prompt or text. Columns: file, label"),
        ("c.csv", "file,caption\na.png,x\na.png,y\n", "has two captions of 'a.png'. Keep one"),
        ("c.csv", "file,caption\na.png,x\nb.png, \n", "the caption of 'b.png' is empty"),
        ("c.csv", "caption,id\nx,1\ny,\n", "1 caption of 2 has no id and no file"),
        ("c.csv", "file,caption\n../a.png,x\n", r"file name '../a.png' leads out of the folder"),
        ("c.csv", "file,caption\n/etc/a.png,x\n", r"leads out of the folder"),
        ("c.csv", "file,caption\n", "holds no captions"),
        ("c.csv", b"file,caption\na.png,\xff\xfe\n", "is no UTF-8 text (byte 19)"),
        ("c.txt", "a\n\nb\n", "the caption number 2 is empty"),
        ("c.jsonl", '{"file": "a.png", "caption": "x"}\n{"file": }\n', "c.jsonl line 2 is no JSON"),
        ("c.jsonl", "[1]\n", "c.jsonl line 1 is no JSON object"),
        ("c.jsonl", '{"file": "a.png", "caption": 3}\n', "a caption must be text, found 3"),
        ("c.json", "[" * 100_000, "is no JSON (it is nested too deeply)"),
        ("c.json", '{"images": 1}', "a list of objects, or COCO's form"),
        ("c.json", '{"images": [{"file_name": "a.png"}], "annotations": []}', "images[0] id must be a number or text, found None"),
        ("c.json", '{"images": [], "annotations": [{"image_id": true, "caption": "x"}]}', "[0] image_id must be a number or text"),
        ("c.parquet", "", "captions are read from .csv, .tsv, .jsonl, .json, .txt files, not from '.parquet'"),
    ],
)
def test_captions_that_cannot_be_meant_are_one_line(tmp_path, name, text, words):
    with pytest.raises(UsageError) as caught:
        read_captions(written(tmp_path, name, text))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_of_captions_is_found_in_its_folder_and_two_are_one_too_many(tmp_path):
    assert find_captions(tmp_path) is None
    path = written(tmp_path, "metadata.jsonl", "{}")
    assert find_captions(tmp_path) == path
    written(tmp_path, "captions.csv", "")
    with pytest.raises(UsageError, match=r"several files of captions \(captions.csv, metadata.jsonl\)"):
        find_captions(tmp_path)
    with pytest.raises(UsageError, match="no file .*none.csv"):
        read_captions(tmp_path / "none.csv")
