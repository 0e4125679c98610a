import re

import pytest

from relclass.codebook import Codebook, Topic, load_codebook
from relclass.errors import DataError

TOPIC = Topic(name="security", definition="force")


def test_the_projects_codebook_has_the_four_topics_in_order():
    codebook = load_codebook("data/codebook.yaml")
    assert codebook.names == ("security", "transit", "energy", "karabakh")
    assert codebook.version == "1.1"
    for topic in codebook.topics:
        assert topic.definition and topic.excludes and len(topic.examples) >= 3
    numbered = [rule for rule in codebook.rules if re.match(r"\d\. ", rule)]
    assert [rule[0] for rule in numbered] == list("123456789")


def test_the_page_for_annotators_is_of_the_same_version():
    with open("data/CODEBOOK.md", encoding="utf-8") as file:
        page = file.read()
    assert f"Version {load_codebook('data/codebook.yaml').version}." in page


def test_topics_are_returned_in_codebook_order_each_once():
    codebook = load_codebook("data/codebook.yaml")
    given = ["karabakh", "transit", "karabakh"]
    assert codebook.check(given, where="here") == ("transit", "karabakh")
    assert codebook.check([], where="here") == ()


def test_an_unknown_topic_is_named_with_its_place_and_the_nearest_one():
    codebook = Codebook(version="1", topics=(TOPIC,))
    message = r"^a\.jsonl:17: topic 'secuirty' is not in the codebook \(did you mean 'security'"
    with pytest.raises(DataError, match=message):
        codebook.check(["secuirty"], where="a.jsonl:17")


def test_users_bring_their_own_topics_as_yaml_or_json(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("version: '2'\ntopics:\n- name: water\n  definition: آب و رودخانه\n", "utf-8")
    assert load_codebook(path).topics[0].definition == "آب و رودخانه"
    path.write_text('{"version": "2", "topics": [{"name": "water", "definition": "x"}]}', "utf-8")
    assert load_codebook(path).names == ("water",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version: '1'\ntopics: []", "at least 1 item"),
        ("version: '1'\ntopics:\n- {name: A B, definition: x}", "should match pattern"),
        ("version: '1'\ntopics:\n- {name: a, definition: x}\n- {name: a, definition: y}",
         "topic names must be unique"),
        ("version: '1'\ntopics:\n- {name: a, definition: x, colour: red}", "colour"),
        ("version: 1.1\ntopics:\n- {name: a, definition: x}", "version"),
        ("topics: [", "expected the node content"),
        ("just words", "Input should be a valid dictionary"),
    ],
)  # fmt: skip
def test_what_is_no_codebook_is_refused(tmp_path, content, message):
    path = tmp_path / "c.yaml"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=rf"(?s)c\.yaml: not a codebook: .*{message}"):
        load_codebook(path)


def test_a_codebook_that_is_not_there_or_not_utf8_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read the codebook: No such file"):
        load_codebook(tmp_path / "none.yaml")
    (tmp_path / "c.yaml").write_bytes(b"version: \xcf\xd1")
    with pytest.raises(DataError, match="not a codebook"):
        load_codebook(tmp_path / "c.yaml")
