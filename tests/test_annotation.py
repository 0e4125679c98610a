import json
import logging
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relclass.annotation import (
    guess_format,
    label_studio_config,
    read_annotations,
    read_doccano,
    read_label_studio,
    write_annotations,
    write_doccano,
    write_label_studio,
)
from relclass.codebook import Codebook, Topic
from relclass.errors import DataError
from relclass.records import LabelledPassage

CODEBOOK = Codebook(
    version="1",
    topics=(Topic(name="security", definition='force & "threat"'), Topic(name="transit",
                                                                         definition="<roads>")),
)  # fmt: skip
PASSAGES = [
    LabelledPassage("a1/0", "a1", "پل مرزی «پلدشت»\nباز شد.", "fa", ("transit",), scraped=True),
    LabelledPassage("a1/1", "a1", "وزير الخارجية وصل", "ar", (), unsure=("security",)),
    LabelledPassage("b/0", "b", 'Two, "quoted"', "en", ("security", "transit"), origin="real"),
]
many = st.lists(
    st.builds(
        LabelledPassage,
        passage_id=st.uuids().map(str),
        article_id=st.sampled_from(["a", "b"]),
        text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
        language=st.sampled_from(["fa", "az"]),
        topics=st.sampled_from([(), ("security",), ("security", "transit")]),
        note=st.none() | st.just("نکته"),
    ),
    max_size=3,
)


@pytest.mark.parametrize(
    ("name", "layout"),
    [("p.json", "label-studio"), ("p.jsonl", "doccano"), ("p.jsonl", "labelled"),
     ("p.csv", "labelled")],
)  # fmt: skip
@given(passages=many)
@settings(max_examples=25, deadline=None)
def test_passages_survive_every_layout(name, layout, passages, tmp_path_factory):
    path = tmp_path_factory.mktemp("annotation") / name
    write_annotations(passages, path, format=layout)
    found = read_annotations(path, CODEBOOK, format=layout)
    assert next(iter(found.values()), []) == passages
    if passages:
        assert guess_format(path) == layout


def test_all_fields_come_back_from_label_studio_and_doccano(tmp_path):
    write_label_studio(PASSAGES, tmp_path / "p.json")
    write_doccano(PASSAGES, tmp_path / "p.jsonl")
    assert read_label_studio(tmp_path / "p.json", CODEBOOK) == {"": PASSAGES}
    assert read_doccano(tmp_path / "p.jsonl", CODEBOOK) == PASSAGES


def test_the_labelling_interface_offers_every_topic_and_escapes_its_definition():
    root = ET.fromstring(label_studio_config(CODEBOOK))
    choices = root.findall(".//Choice")
    assert [choice.get("value") for choice in choices] == ["security", "transit"]
    assert choices[0].get("hint") == 'force & "threat"'
    assert root.find("Choices").get("choice") == "multiple"


def task(n, annotations, **data):
    return {"id": n, "data": {"text": f"متن {n}", "language": "fa", **data},
            "annotations": annotations}  # fmt: skip


def chosen(*topics, by=None, **more):
    result = [{"type": "choices", "value": {"choices": list(topics)}}] if topics else []
    return {"result": result, "completed_by": by, **more}


def write(path, content):
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return path


def test_annotators_of_one_export_are_kept_apart(tmp_path):
    path = write(tmp_path / "export.json", [
        task(1, [chosen("transit", by=7), chosen(by={"email": "b@example.org", "id": 8})]),
        task(2, [chosen("security", by=7)]),
    ])  # fmt: skip
    found = read_label_studio(path, CODEBOOK)
    assert {name: [(p.passage_id, p.topics) for p in rows] for name, rows in found.items()} == {
        "7": [("export/1", ("transit",)), ("export/2", ("security",))],
        "b@example.org": [("export/1", ())],
    }


def test_a_task_that_nobody_annotated_is_no_passage_without_topics(tmp_path, caplog):
    path = write(tmp_path / "e.json", [
        task(1, []), task(2, [chosen("transit", was_cancelled=True)]), task(3, [chosen()]),
    ])  # fmt: skip
    with caplog.at_level(logging.WARNING):
        found = read_label_studio(path, CODEBOOK)
    assert [p.passage_id for p in found[""]] == ["e/3"]
    assert "2 tasks have no annotation and are left out" in caplog.text


def test_suggestions_are_not_annotations(tmp_path):
    write_label_studio(PASSAGES, tmp_path / "p.json", as_predictions=True)
    assert read_label_studio(tmp_path / "p.json", CODEBOOK) == {}


def test_the_short_export_of_label_studio_is_read(tmp_path):
    path = write(tmp_path / "min.json", [
        {"id": 4, "text": "متن", "language": "fa", "topics": {"choices": ["security", "transit"]},
         "annotator": 3, "lead_time": 2.5},
        {"id": 5, "text": "متن دوم", "language": "fa", "topics": "transit", "annotator": 3},
        {"id": 6, "text": "متن سوم", "language": "fa", "annotator": 3},
    ])  # fmt: skip
    rows = read_label_studio(path, CODEBOOK)["3"]
    assert [p.topics for p in rows] == [("security", "transit"), ("transit",), ()]


def test_doccano_fields_that_are_not_ours_are_passed_over(tmp_path, caplog):
    path = tmp_path / "d.jsonl"
    path.write_text(
        '{"id": 3, "text": "one", "language": "en", "label": ["transit"], "Comments": []}\n'
        '{"id": 4, "text": "two", "language": "en"}\n'
    )
    with caplog.at_level(logging.WARNING):
        (passage,) = read_doccano(path, CODEBOOK)
    assert (passage.passage_id, passage.topics) == ("d/3", ("transit",))
    assert "1 tasks have no annotation" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}', r"e\.json: expected a list of tasks, got dict"),
        ('[{"id": 1, "data": {"te', r"e\.json:1: not JSON, the file may have been cut"),
        ('["x"]', r"e\.json: task 1: expected an object, got str"),
        ('[{"data": "x", "annotations": []}]', r"e\.json: task 1: 'data' must be an object"),
        ('[{"id": 1, "data": {}, "annotations": [{"result": []}]}]',
         r"e\.json: task 1: the field 'text' is missing"),
        (json.dumps([task(1, ["transit"])]), r"e\.json: task 1: not an annotation: 'transit'"),
        (json.dumps([task(1, [{"result": [{"type": "choices"}]}])]),
         r"e\.json: task 1: not an annotation: "),
        (json.dumps([task(1, [chosen("transti")])]),
         r"e\.json: task 1: topic 'transti' is not in the codebook \(did you mean 'transit'"),
    ],
)  # fmt: skip
def test_a_broken_export_is_named_with_its_task(tmp_path, content, message):
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_label_studio(tmp_path / "e.json", CODEBOOK)


def test_an_export_that_is_not_utf8_or_not_there_is_refused(tmp_path):
    (tmp_path / "e.json").write_bytes(b'["\xcf"]')
    with pytest.raises(DataError, match=r"e\.json: not UTF-8 at byte 2"):
        read_label_studio(tmp_path / "e.json", CODEBOOK)
    with pytest.raises(DataError, match="cannot read the file: No such file"):
        read_label_studio(tmp_path / "none.json", CODEBOOK)


def test_a_broken_doccano_line_is_named(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"text": "x", "language": "en", "label": ["oil"]}\n')
    with pytest.raises(DataError, match=r"d\.jsonl:1: topic 'oil' is not in the codebook"):
        read_doccano(tmp_path / "d.jsonl", CODEBOOK)


def test_a_file_of_no_known_layout_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected a \.json, \.jsonl or \.csv file"):
        guess_format(tmp_path / "labels.xml")
