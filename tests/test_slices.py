from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import make_gold

from relclass.slices import DIMENSIONS, cut_slices, name_length


def cut(gold):
    slices = defaultdict(dict)
    for dimension, name, mask in cut_slices(gold):
        slices[dimension][name] = mask
    return slices


def test_every_passage_is_in_one_slice_of_each_dimension():
    gold = make_gold()
    for dimension, slices in cut(gold).items():
        if dimension != "trap":
            np.testing.assert_array_equal(sum(mask.astype(int) for mask in slices.values()), 1)


def test_slices_go_by_what_the_passages_say():
    gold = make_gold()
    slices = cut(gold)
    assert set(slices["language"]) == {"fa", "ar", "en"}
    assert list(slices["year"]) == ["2019", "2020", "2021", "2022"]
    assert set(slices["scraped"]) == {"scraped", "clean"}
    assert [p.language for p, kept in zip(gold, slices["language"]["ar"], strict=True) if kept] == [
        "ar"
    ] * 30
    assert list(slices["topics"])[:2] == ["no topic", "1 topic"]


def test_a_dimension_in_which_all_are_alike_is_left_out():
    gold = [replace(p, language="fa", source=None, date=None) for p in make_gold()]
    assert not {"language", "source", "year", "certainty"} & set(cut(gold))


def test_what_is_not_known_is_called_unknown():
    first, *rest = make_gold()
    slices = cut([replace(first, date=None, source=None, scraped=None), *rest])
    for dimension in ("year", "source", "scraped"):
        assert slices[dimension]["unknown"].sum() == 1


def test_traps_are_named_slices():
    first, second, *rest = make_gold()
    first = replace(first, text="وزیر نیرو به موزه رفت.")
    slices = cut([first, replace(second, note="namesake: football"), *rest])
    assert slices["trap"]["titles"].nonzero()[0].tolist() == [0]
    assert slices["trap"]["namesakes"].nonzero()[0].tolist() == [1]


def test_unsure_passages_are_a_slice():
    first, *rest = make_gold()
    slices = cut([replace(first, unsure=("energy",)), *rest])
    assert slices["certainty"]["unsure"].sum() == 1


def test_rare_sources_beyond_the_largest_go_unscored():
    gold = [replace(p, source=f"s{k}") for k, p in enumerate(make_gold())]
    assert len(cut(gold)["source"]) == 20


@pytest.mark.parametrize(
    ("n_words", "name"),
    [(20, "up to 20 words"), (21, "21 to 60 words"), (120, "61 to 120 words"),
     (121, "over 120 words")],
)  # fmt: skip
def test_lengths_are_counted_in_words(n_words, name):
    assert name_length("واژه " * n_words) == name


def test_the_dimensions_are_those_of_the_manual():
    assert list(DIMENSIONS) == [
        "language", "origin", "source", "year", "length", "scraped", "topics", "certainty"
    ]  # fmt: skip
