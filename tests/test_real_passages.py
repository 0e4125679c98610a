import json
import logging

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from relclass.codebook import Codebook, Topic
from relclass.errors import DataError
from relclass.real_passages import (
    RealLabel,
    find_texts,
    read_real,
    read_real_labels,
    write_real_labels,
)
from relclass.split_file import text_hash

CODEBOOK = Codebook(version="1", topics=(Topic(name="energy", definition="power"),))
TEXTS = ["نفت ارزان شد، گاز نه.", 'انفجار "بزرگ" در خط لوله', "No topic here, at all"]
ROW = {"id": text_hash(TEXTS[0]), "lang": "fa", "topics": ["energy"], "unsure": []}


def labels_file(tmp_path, *rows):
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_labels_survive_their_file(tmp_path):
    labels = [
        RealLabel(text_hash(TEXTS[0]), "fa", "o/r", "a.json", "7", 3, ("energy",), ("energy",)),
        RealLabel(text_hash(TEXTS[1]), "fa", None, None, None, None, ()),
    ]
    write_real_labels(labels, tmp_path / "labels.jsonl")
    assert read_real_labels(tmp_path / "labels.jsonl", CODEBOOK) == labels
    assert labels[0].article_id == "o/r#7"
    assert labels[1].article_id == labels[1].id


@pytest.mark.parametrize("suffix", [".jsonl", ".txt", ".csv", ".parquet"])
def test_texts_are_found_by_hash_in_any_layout(tmp_path, suffix):
    path = tmp_path / f"texts{suffix}"
    table = pa.table({"text": TEXTS, "title": ["عنوان", "", None]})
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in table.to_pylist()), "utf-8")
    elif suffix == ".txt":
        path.write_text("\n".join(TEXTS), "utf-8")
    elif suffix == ".csv":
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path)
    wanted = [text_hash(TEXTS[0]), text_hash(TEXTS[1]), text_hash("absent")]
    found = find_texts([path], wanted)
    assert {digest: text for digest, (text, _) in found.items()} == {
        wanted[0]: TEXTS[0], wanted[1]: TEXTS[1],
    }  # fmt: skip
    assert found[wanted[0]][1] == (None if suffix == ".txt" else "عنوان")
    assert found[wanted[1]][1] is None


def test_a_table_without_titles_gives_none(tmp_path):
    parquet.write_table(pa.table({"text": [TEXTS[0]]}), tmp_path / "t.parquet")
    assert find_texts([tmp_path / "t.parquet"], [text_hash(TEXTS[0])]) == {
        text_hash(TEXTS[0]): (TEXTS[0], None)
    }


def test_labels_are_joined_with_texts_and_what_is_missing_is_said(tmp_path, caplog):
    path = labels_file(tmp_path, ROW, ROW | {"id": text_hash("absent")})
    (tmp_path / "texts.txt").write_text(TEXTS[0], "utf-8")
    with caplog.at_level(logging.WARNING):
        passages, n_missing = read_real(path, [tmp_path / "texts.txt"], CODEBOOK)
    assert n_missing == 1 and "1 of 2 real passages were not found in" in caplog.text
    assert [(p.text, p.topics, p.origin) for p in passages] == [(TEXTS[0], ("energy",), "real")]


def test_no_place_to_look_is_named_in_the_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert read_real(labels_file(tmp_path, ROW), [], CODEBOOK) == ([], 1)
    assert "data.real_texts is empty" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "xyz"}, r"labels\.jsonl:2: expected an id of 12 hexadecimal digits .* got 'xyz'"),
        ({"id": 7}, r"expected an id of 12 hexadecimal digits"),
        ({"lang": "azb"}, r"lang must be one of fa, ar"),
        ({"topics": ["enrgy"]}, r"topic 'enrgy' is not in the codebook \(did you mean 'energy'"),
        ({"unsure": "energy"}, r"'unsure' must be a list, got 'energy'"),
        ({"text": "x"}, r"unknown field 'text'"),
        ({"id": ROW["id"]}, r"labels\.jsonl:2: passage .* has a label already"),
    ],
)
def test_a_broken_label_is_named_with_its_line(tmp_path, change, message):
    second = ROW | {"id": text_hash(TEXTS[1])} | change
    with pytest.raises(DataError, match=message):
        read_real_labels(labels_file(tmp_path, ROW, second), CODEBOOK)


def test_a_label_without_topics_is_refused(tmp_path):
    with pytest.raises(DataError, match="the field 'topics' is missing"):
        read_real_labels(labels_file(tmp_path, {"id": ROW["id"], "lang": "fa"}), CODEBOOK)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", b"", r"texts are looked up in \.jsonl, \.txt"),
        ("a.jsonl", b'{"body": "x"}', r"a\.jsonl:1: expected a field 'text', got body"),
        ("a.csv", b"body\nx\n", r"a\.csv: no column 'text'; got body"),
        ("a.parquet", b"PAR", r"a\.parquet: cannot read the table"),
    ],
)
def test_a_file_without_texts_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        find_texts([tmp_path / name], ["0" * 12])


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        DataError,
        match=r"cannot look up texts, there is no such file: rebuild it "
        r".*data\.real_labels=null thresholds\.origin=all",
    ):
        find_texts([tmp_path / "none.jsonl"], ["0" * 12])  # fmt: skip
