import json
import logging

import pytest

from relclass.errors import DataError
from relclass.records import LabelledPassage
from relclass.split_file import (
    EMPTY,
    Splits,
    extend_splits,
    read_splits,
    splits_checksum,
    text_hash,
    write_splits,
)

TOPICS = [(), ("transit",), ("energy",), ("security", "transit")]


def passage(n, *, article=None, text=None, origin="authored", language="fa"):
    text = text or f"گزارش شماره {n * 7919} از {['آستارا', 'جلفا', 'نوردوز', 'خوی'][n % 4]} {n}"
    identity = text_hash(text) if origin == "real" else f"p{n}"
    return LabelledPassage(
        identity, article or f"a{n}", text, language, TOPICS[n % 4], origin=origin
    )


OLD = [passage(n, article=f"a{n // 2}") for n in range(60)] + [
    passage(n, origin="real", language="ar") for n in range(100, 160)
]


@pytest.fixture(scope="module")
def old():
    return extend_splits(OLD, near_duplicates=[])


def test_every_passage_gets_a_split_and_no_article_two(old):
    assert old.version == 1
    assert len(old.articles) == 30 and len(old.passages) == 60
    by_article = {}
    for p in OLD:
        name = old.split_of(p)
        assert by_article.setdefault(p.article_id, name) == name


def test_splits_made_twice_are_the_same(old):
    assert extend_splits(OLD, near_duplicates=[]) == old


def test_nothing_new_gives_the_very_same_splits(old):
    assert extend_splits(OLD, old, near_duplicates=[]) is old


def test_new_passages_leave_every_old_one_where_it_is(old):
    fresh = [passage(n, origin="real") for n in range(200, 300)]
    new = extend_splits([*OLD, *fresh], old, near_duplicates=[])
    assert new.version == 2 and new.checksum != old.checksum
    assert old.articles.items() <= new.articles.items()
    assert old.passages.items() <= new.passages.items()
    placed = [new.split_of(p) for p in fresh]
    assert {name: placed.count(name) for name in set(placed)} == pytest.approx(
        {"train": 70, "validation": 15, "test": 15}, abs=2
    )


def test_a_new_passage_of_an_old_article_follows_it(old):
    fresh = passage(999, article="a7")
    new = extend_splits([*OLD, fresh], old, near_duplicates=[])
    assert new.split_of(fresh) == old.articles["a7"]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_near_duplicate_of_an_old_passage_follows_it_with_its_whole_article(old, split):
    position = next(k for k, p in enumerate(OLD) if old.split_of(p) == split)
    fresh = [passage(500, article="new"), passage(501, article="new")]
    pairs = [(position, len(OLD) + 1)]
    new = extend_splits([*OLD, *fresh], old, near_duplicates=pairs)
    assert new.articles["new"] == split


def test_near_duplicates_are_looked_for_when_none_are_given():
    text = "کامیون‌های باری پشت دروازه مرزی بیله‌سوار سه روز است که در صف مانده‌اند"
    first = [*OLD[:20], passage(700, text=text)]
    splits = extend_splits(first)
    fresh = passage(701, text=text + "!")
    assert extend_splits([*first, fresh], splits).split_of(fresh) == splits.split_of(first[-1])


def position_of(old, split, n=1):
    return [k for k, p in enumerate(OLD) if old.split_of(p) == split][:n]


def test_a_group_that_touches_several_splits_goes_to_the_one_it_touches_most(old, caplog):
    train, test = position_of(old, "train", 2), position_of(old, "test")
    fresh = passage(600)
    pairs = [(position, len(OLD)) for position in (train[0], *test, train[1])]
    with caplog.at_level(logging.WARNING):
        new = extend_splits([*OLD, fresh], old, near_duplicates=pairs)
    assert new.split_of(fresh) == "train"
    assert caplog.text.count("'p600' (train) nearly repeat each other") == 1
    assert "take one of them out of the data" in caplog.text


def test_an_article_is_never_cut_even_where_a_new_passage_nearly_repeats_another_split(old, caplog):
    article = OLD[position_of(old, "train")[0]].article_id
    test = position_of(old, "test", 2)
    fresh = [passage(610, article=article), passage(611, article=article)]
    pairs = [(test[0], len(OLD)), (test[1], len(OLD)), (len(OLD), len(OLD) + 1)]
    with caplog.at_level(logging.WARNING):
        new = extend_splits([*OLD, *fresh], old, near_duplicates=pairs)
    assert new.articles[article] == "train"
    assert caplog.text.count("nearly repeat each other but belong to articles of two splits") == 2


def test_two_new_passages_of_two_old_articles_each_follow_their_own(old):
    articles = [OLD[position_of(old, name)[0]].article_id for name in ("train", "test")]
    fresh = [passage(620 + k, article=article) for k, article in enumerate(articles)]
    pairs = [(len(OLD), len(OLD) + 1)]
    new = extend_splits([*OLD, *fresh], old, near_duplicates=pairs)
    assert [new.articles[article] for article in articles] == ["train", "test"]


def test_no_real_article_is_cut_either(old):
    known = next(p for p in OLD if p.origin == "real" and old.split_of(p) == "train")
    test = next(k for k, p in enumerate(OLD) if old.split_of(p) == "test")
    fresh = passage(630, article=known.article_id, origin="real")
    new = extend_splits([*OLD, fresh], old, near_duplicates=[(test, len(OLD))])
    assert new.split_of(fresh) == "train"


def test_a_removed_passage_is_forgotten_and_a_mended_label_changes_nothing(old):
    new = extend_splits(OLD[2:], old, near_duplicates=[])
    assert "a0" not in new.articles and new.version == 2
    relabelled = [LabelledPassage(p.passage_id, p.article_id, p.text, p.language, ("energy",),
                                  origin=p.origin) for p in OLD]  # fmt: skip
    assert extend_splits(relabelled, old, near_duplicates=[]) is old


def test_authored_and_real_articles_of_one_name_are_two_articles():
    rows = [passage(1, article="x"), passage(2, article="x", origin="real")]
    splits = extend_splits(rows, near_duplicates=[])
    assert set(splits.articles) == {"x"} and set(splits.passages) == {rows[1].passage_id}


def test_the_checksum_tells_texts_apart_but_not_their_order():
    one, two = ("a", text_hash("x")), ("b", text_hash("y"))
    assert splits_checksum([one, two]) == splits_checksum([two, one])
    assert splits_checksum([one, two]) != splits_checksum([one, ("b", text_hash("z"))])
    assert text_hash("abc") == "a9993e364706"


def test_splits_survive_their_file(tmp_path, old):
    write_splits(old, tmp_path / "splits.json")
    assert read_splits(tmp_path / "splits.json") == old


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"version": 1}', json.dumps({**EMPTY.__dict__, "extra": 1}), '"x"'],
)
def test_a_file_that_holds_no_splits_is_refused(tmp_path, content):
    path = tmp_path / "splits.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"not a splits file .*restore it, .* relclass data split"):
        read_splits(path)


def test_a_missing_file_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(DataError, match=r"no splits file; run: relclass data split with"):
        read_splits(tmp_path / "splits.json")


def test_a_split_of_another_name_is_refused(tmp_path):
    write_splits(Splits(1, 0, (0.7, 0.15, 0.15), {}, {"a": "dev"}, {}), tmp_path / "s.json")
    with pytest.raises(DataError, match=r"expected train, validation, test, got \['dev'\]"):
        read_splits(tmp_path / "s.json")


def test_new_passages_may_all_be_for_training_save_what_belongs_elsewhere(old):
    fresh = [passage(n, origin="real") for n in range(200, 300)]
    held_back = next(p for p in OLD if old.split_of(p) == "test")
    repeats = len(OLD) + 7
    near_duplicates = [(OLD.index(held_back), repeats)]
    new = extend_splits([*OLD, *fresh], old, near_duplicates=near_duplicates, new_to_train=True)
    assert [new.split_of(p) for p in OLD] == [old.split_of(p) for p in OLD]
    assert new.split_of(fresh[7]) == "test"
    assert {new.split_of(p) for p in fresh if p is not fresh[7]} == {"train"}
