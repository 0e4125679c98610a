import pytest

from relclass.codebook import Codebook, Topic, load_codebook
from relclass.description import CARD_END, CARD_START, collect_items, describe, fill_card
from relclass.errors import DataError
from relclass.labelled import read_labelled
from relclass.real_passages import RealLabel, read_real_labels
from relclass.records import LabelledPassage
from relclass.split_file import Splits, read_splits

CODEBOOK = Codebook(
    version="1", topics=tuple(Topic(name=name, definition=name) for name in ("energy", "transit"))
)
PASSAGES = [
    LabelledPassage("a/0", "a", "واژه " * 10, "fa", ("energy",)),
    LabelledPassage("a/1", "a", "واژه " * 30, "fa", ()),
    LabelledPassage("b/0", "b", "word " * 250, "en", ("energy", "transit")),
    LabelledPassage("c" * 12, "r#1", "گاز " * 50, "fa", ("energy",), origin="real"),
]
LABELS = [
    RealLabel("c" * 12, "fa", "r", "p", "1", 0, ("energy",)),
    RealLabel("d" * 12, "tr", "r", "p", "2", 0, ()),
]
SPLITS = Splits(1, 0, (0.7, 0.15, 0.15), {}, {"a": "train", "b": "test"}, {"c" * 12: "train"})


def test_the_tables_are_those_counted_by_hand():
    by_language, by_split, by_length = describe(
        collect_items(PASSAGES, LABELS, splits=SPLITS), CODEBOOK
    )
    assert by_language.columns == (
        "origin", "language", "articles", "passages", "energy", "transit", "no topic",
        "median words", "90 % within",
    )  # fmt: skip
    assert by_language.rows == (
        ("authored", "fa", "1", "2", "1", "0", "1", "20", "28"),
        ("authored", "en", "1", "1", "1", "1", "0", "250", "250"),
        ("authored", "all", "2", "3", "2", "1", "1", "30", "206"),
        ("real", "fa", "1", "1", "1", "0", "0", "50", "50"),
        ("real", "tr", "1", "1", "0", "0", "1", "–", "–"),
        ("real", "all", "2", "2", "1", "0", "1", "50", "50"),
    )
    assert [row[:4] for row in by_split.rows] == [
        ("authored", "train", "1", "2"), ("authored", "test", "1", "1"),
        ("authored", "all", "2", "3"), ("real", "train", "1", "1"), ("real", "none", "1", "1"),
        ("real", "all", "2", "2"),
    ]  # fmt: skip
    assert [row[1] for row in by_length.rows] == [
        "0–19", "20–49", "200 and more", "all", "50–99", "text not at hand", "all",
    ]  # fmt: skip


def test_a_table_is_markdown_with_numbers_to_the_right():
    table = describe(collect_items(PASSAGES[:1]), CODEBOOK)[0]
    lines = table.to_markdown().splitlines()
    assert lines[0].startswith("| origin | language | articles |")
    assert lines[1] == "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    assert lines[2] == "| authored | fa | 1 | 1 | 1 | 0 | 0 | 10 | 10 |"


def test_nothing_gives_empty_tables():
    assert [table.rows for table in describe([], CODEBOOK)] == [(), (), ()]


def test_tables_are_put_in_the_place_of_the_former_ones():
    card = f"# Card\n\n{CARD_START}\nold\n{CARD_END}\n\nEnd.\n"
    filled = fill_card(card, "| a |")
    assert filled == f"# Card\n\n{CARD_START}\n\n| a |\n\n{CARD_END}\n\nEnd.\n"
    assert fill_card(filled, "| a |") == filled


@pytest.mark.parametrize("card", ["no place", f"{CARD_START} only", f"{CARD_END} only"])
def test_a_card_without_a_place_for_tables_is_refused(card):
    with pytest.raises(DataError, match="the card has no place for tables"):
        fill_card(card, "| a |")


def test_the_counts_of_the_data_card_are_those_of_the_data():
    codebook = load_codebook("data/codebook.yaml")
    passages = read_labelled("data/articles", codebook)
    labels = read_real_labels("data/real_labels.jsonl", codebook)
    items = collect_items(passages, labels, splits=read_splits("data/splits.json"))
    with open("data/README.md", encoding="utf-8") as file:
        card = file.read()
    for table in describe(items, codebook)[:2]:
        for row in table.rows:
            counts = "| " + " | ".join(row[:-2]) + " |"
            assert counts in card, "relclass data describe --into data/README.md mends it"
    assert f"topics of {len(labels):,} passages of the real press" in card
