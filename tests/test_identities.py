from hypothesis import given
from hypothesis import strategies as st

from relclass.identities import UniqueIds


def test_a_second_article_with_an_id_gets_a_suffix_that_nobody_has() -> None:
    ids = UniqueIds()
    given_ids = ["a", "a", "a-2", "b", "a", "a-2"]
    assert [ids.make_unique(name) for name in given_ids] == [
        "a",
        "a-2",
        "a-2-2",
        "b",
        "a-3",
        "a-2-3",
    ]


@given(st.lists(st.sampled_from(["", "a", "a-2", "a-3", "\ud800", "ب"]), max_size=30))
def test_ids_differ_and_do_not_depend_on_anything_but_their_order(names: list[str]) -> None:
    first, second = UniqueIds(), UniqueIds()
    made = [first.make_unique(name) for name in names]
    assert len(set(made)) == len(made)
    assert made == [second.make_unique(name) for name in names]


def test_the_table_grows_without_forgetting() -> None:
    ids = UniqueIds()
    names = [f"file:{number}" for number in range(5000)]
    assert [ids.make_unique(name) for name in names] == names
    assert ids.make_unique("file:17") == "file:17-2"
    assert ids.make_unique("file:4999") == "file:4999-2"


def test_a_million_articles_of_one_id_do_not_take_ever_longer() -> None:
    ids = UniqueIds()
    last = [ids.make_unique("x") for _ in range(20_000)][-1]
    assert last == "x-20000"
