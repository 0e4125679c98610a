from relclass.codebook import Codebook, Topic
from relclass.description import collect_items, describe
from relclass.real_passages import RealLabel
from relclass.records import LabelledPassage
from relclass.split_file import Splits

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
