import pytest
from hypothesis import given
from hypothesis import strategies as st

from relclass.report_markup import Markup, element, isolated, join, passage_attributes


@given(st.text())
def test_no_text_can_open_a_tag_or_leave_an_attribute(text):
    built = element("p", {"title": text}, text)
    inside = built.removeprefix('<p title="').removesuffix("</p>")
    attribute, _, child = inside.partition('">')
    assert '"' not in attribute
    assert "<" not in child and ">" not in child


def test_text_is_escaped_and_markup_is_not():
    assert element("p", {}, "<b>", Markup("<i>x</i>")) == "<p>&lt;b&gt;<i>x</i></p>"
    assert join(["&", None, Markup("&amp;")]) == "&amp;&amp;"


def test_attributes_are_left_out_bare_or_quoted():
    built = element("input", {"hidden": False, "checked": True, "value": 'a"b', "max": None})
    assert built == '<input checked value="a&quot;b"/>'


def test_floats_are_short():
    assert element("rect", {"x": 1.0, "y": 2.34567}) == '<rect x="1" y="2.35"/>'


@pytest.mark.parametrize("name", ["", "a b", "a>", 'a"', "a="])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="expected the name of an element"):
        element(name)
    with pytest.raises(ValueError, match="expected the name of an element"):
        element("p", {name: "x"})


@pytest.mark.parametrize("name", ["onclick", "OnLoad"])
def test_a_handler_is_refused(name):
    with pytest.raises(ValueError, match="handlers belong in the script"):
        element("p", {name: "x"})


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("fa", {"dir": "rtl", "lang": "fa"}),
        ("ar", {"dir": "rtl", "lang": "ar"}),
        ("az", {"dir": "auto", "lang": "az"}),
        ("other", {"dir": "auto"}),
    ],
)
def test_a_passage_is_set_in_its_direction(language, expected):
    assert passage_attributes(language) == expected


def test_a_stretch_of_unknown_direction_is_isolated():
    assert isolated("<x>") == "<bdi>&lt;x&gt;</bdi>"
