import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relclass.codebook import Codebook, Topic
from relclass.errors import DataError
from relclass.labelled import (
    passage_from_dict,
    passage_to_dict,
    read_labelled,
    write_labelled,
)
from relclass.records import LabelledPassage

CODEBOOK = Codebook(
    version="1",
    topics=tuple(Topic(name=name, definition=name) for name in ("security", "transit", "energy")),
)
ARTICLE = {
    "id": "a1",
    "lang": "fa",
    "date": "2021-11-29",
    "genre": "agency",
    "scraped": True,
    "title": "پل تازه",
    "passages": [
        {"text": "پل مرزی از فردا باز می‌شود.", "topics": ["transit"]},
        {"text": "وزیر از شهر دیدن کرد.", "topics": [], "note": "titles only"},
    ],
}
FLAT = {"passage_id": "p1", "text": "Gaz kəməri təmir olunur.", "language": "az",
        "topics": ["energy"]}  # fmt: skip


def lines(path: Path, *records: object) -> Path:
    path.write_text(
        "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n"
                for r in records),
        encoding="utf-8",
    )  # fmt: skip
    return path


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
labelled_passages = st.builds(
    LabelledPassage,
    passage_id=st.text("abc/1-", min_size=1, max_size=8),
    article_id=st.text("abc1", min_size=1, max_size=4),
    text=texts,
    language=st.sampled_from(["fa", "ar", "az", "tr", "en", "ru", "other"]),
    topics=st.sampled_from([(), ("transit",), ("security", "energy"), CODEBOOK.names]),
    origin=st.sampled_from(["authored", "real"]),
    unsure=st.sampled_from([(), ("energy",)]),
    title=st.none() | texts,
    date=st.none() | st.dates(),
    scraped=st.none() | st.booleans(),
    note=st.none() | texts,
)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@settings(max_examples=40, deadline=None)
@given(passages=st.lists(labelled_passages, max_size=3, unique_by=lambda p: p.passage_id))
def test_what_is_written_is_read_back(suffix, passages, tmp_path_factory):
    path = tmp_path_factory.mktemp("labelled") / f"passages{suffix}"
    write_labelled(passages, path)
    assert read_labelled(path, CODEBOOK) == passages


def test_an_article_gives_its_passages_what_they_share(tmp_path):
    first, second = read_labelled(lines(tmp_path / "a.jsonl", ARTICLE), CODEBOOK)
    assert (first.passage_id, second.passage_id) == ("a1/0", "a1/1")
    assert first.article_id == second.article_id == "a1"
    assert (first.topics, second.topics) == (("transit",), ())
    assert first.date is not None and first.date.isoformat() == "2021-11-29"
    assert first.scraped is True and second.note == "titles only"


def test_articles_and_flat_passages_may_be_mixed(tmp_path):
    path = lines(tmp_path / "a.jsonl", ARTICLE, "", {"id": "p9", "lang": "azb", "text": "سو",
                                                     "topics": ["energy", "energy"]})  # fmt: skip
    passages = read_labelled(path, CODEBOOK)
    assert [p.passage_id for p in passages] == ["a1/0", "a1/1", "p9"]
    assert passages[2].language == "az" and passages[2].topics == ("energy",)
    assert passages[2].article_id == "p9"


def test_a_folder_is_read_file_by_file_in_the_order_of_names(tmp_path):
    lines(tmp_path / "b.jsonl", FLAT)
    lines(tmp_path / "a.jsonl", ARTICLE)
    (tmp_path / "readme.txt").write_text("not data")
    ids = [p.passage_id for p in read_labelled(tmp_path, CODEBOOK)]
    assert ids == ["a1/0", "a1/1", "p1"]


def test_topics_come_in_codebook_order(tmp_path):
    path = lines(tmp_path / "a.jsonl", FLAT | {"topics": ["energy", "security"]})
    assert read_labelled(path, CODEBOOK)[0].topics == ("security", "energy")


def test_a_csv_may_have_a_column_for_each_topic(tmp_path):
    path = lines(tmp_path / "a.csv", "id,text,lang,security,transit,energy",
                 'x,"A quoted, text",en,1,0,true', "y,No topic,en,0,,0")  # fmt: skip
    x, y = read_labelled(path, CODEBOOK)
    assert (x.text, x.topics, y.topics) == ("A quoted, text", ("security", "energy"), ())


def test_the_language_is_detected_where_none_is_given(tmp_path):
    path = lines(tmp_path / "a.csv", "id,text,topics",
                 "x,وزیر راه گفت که این پل تا پایان سال باز می‌شود,transit")  # fmt: skip
    assert read_labelled(path, CODEBOOK)[0].language == "fa"


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(FLAT).encode())
    assert read_labelled(path, CODEBOOK)[0].passage_id == "p1"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (FLAT | {"topics": ["secuirty"]},
         r"a\.jsonl:2: topic 'secuirty' is not in the codebook \(did you mean 'security'\?\)"),
        ('{"passage_id": "p1", "text": "cu', r"a\.jsonl:2: not JSON, the line may have been cut"),
        ("[1, 2]", r"a\.jsonl:2: expected an object, got list"),
        ({"passage_id": "p1", "topics": []}, r"a\.jsonl:2: the field 'text' is missing"),
        ({"passage_id": "p1", "text": "x"}, r"a\.jsonl:2: the field 'topics' is missing"),
        ({"text": "x", "topics": []}, r"a\.jsonl:2: the field 'passage_id' is missing"),
        (FLAT | {"passage_id": ""}, r"a\.jsonl:2: the passage's id is empty"),
        (FLAT | {"text": " \n"}, r"a\.jsonl:2: the text is empty"),
        (FLAT | {"text": 7}, r"a\.jsonl:2: 'text' must be a string, got int"),
        (FLAT | {"title": ["x"]}, r"a\.jsonl:2: 'title' must be a string, got \['x'\]"),
        ('{"passage_id": "p1", "topics": [], "text": "ab\\ud800"}',
         r"a\.jsonl:2: lone surrogate U\+D800 at character 2 of the text"),
        (FLAT | {"topics": [1]}, r"a\.jsonl:2: 'topics' must be a list of topic names"),
        (FLAT | {"topic": []}, r"a\.jsonl:2: unknown field 'topic' \(did you mean 'topics'\?\)"),
        (FLAT | {"language": "pe"}, r"a\.jsonl:2: language must be one of fa, ar"),
        (FLAT | {"origin": "web"}, r"a\.jsonl:2: origin must be one of authored, real"),
        (FLAT | {"date": "29/11/2021"}, r"a\.jsonl:2: 'date' must be like 2021-11-29"),
        (FLAT | {"scraped": "maybe"}, r"a\.jsonl:2: 'scraped' must be 0 or 1, got 'maybe'"),
        (FLAT, r"a\.jsonl:2: passage 'p1' was already given at .*a\.jsonl:1"),
        (ARTICLE | {"passages": 3}, r"a\.jsonl:2: 'passages' must be a list"),
        (ARTICLE | {"passages": ["x"]}, r"a\.jsonl:2: passage 0 of 'a1': expected an object"),
        (ARTICLE | {"gener": "x"}, r"a\.jsonl:2: unknown field 'gener' of an article .*'genre'"),
        (ARTICLE | {"id": None}, r"a\.jsonl:2: the article has no 'id'"),
    ],
)  # fmt: skip
def test_a_broken_line_is_named_with_its_reason(tmp_path, record, message):
    path = lines(tmp_path / "a.jsonl", FLAT, record)
    with pytest.raises(DataError, match=message):
        read_labelled(path, CODEBOOK)


def test_bytes_that_are_not_utf8_are_named_with_their_place(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(FLAT).encode() + b'\n{"text": "\xcf\xd1"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: not UTF-8 at byte 10 of the line"):
        read_labelled(path, CODEBOOK)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["id,text", "x,y"], r"a\.csv:1: no column 'topics' and no 0/1 column"),
        (["id,text,topics", "x,y"], r"a\.csv:2: expected 3 cells"),
        (["id,text,topics", 'x,"two\nlines",', "z,y,war"], r"a\.csv:4: topic 'war'"),
        (["id,text,topics", 'x,"open,'], r"a\.csv:2: not CSV: unexpected end of data"),
        (["id,text,security,transit,energy", "x,y,2,0,0"], r"a\.csv:2: 'security' must be 0 or 1"),
    ],
)
def test_a_broken_csv_is_named_with_its_line(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read_labelled(lines(tmp_path / "a.csv", *rows), CODEBOOK)


def test_a_csv_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,text,topics\nx,\xcf,\n")
    with pytest.raises(DataError, match=r"a\.csv: not UTF-8 at byte 17"):
        read_labelled(tmp_path / "a.csv", CODEBOOK)


def test_places_without_labelled_passages_are_refused(tmp_path):
    with pytest.raises(DataError, match="no labelled passages in this folder"):
        read_labelled(tmp_path, CODEBOOK)
    with pytest.raises(DataError, match=r"kept as \.jsonl or \.csv files"):
        read_labelled(tmp_path / "a.xlsx", CODEBOOK)
    with pytest.raises(DataError, match="cannot read the file: No such file"):
        read_labelled(tmp_path / "none.jsonl", CODEBOOK)
    with pytest.raises(DataError, match=r"kept as \.jsonl or \.csv files"):
        write_labelled([], tmp_path / "a.txt")


@settings(max_examples=50, deadline=None)
@given(labelled_passages)
def test_a_passage_survives_its_dict(passage):
    row = json.loads(json.dumps(passage_to_dict(passage)))
    assert passage_from_dict(row, CODEBOOK, where="here") == passage
    assert passage_from_dict(row | {"date": passage.date}, CODEBOOK, where="here") == replace(
        passage
    )
