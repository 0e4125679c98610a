import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relclass.errors import MissingExtraError
from relclass.splits import find_near_duplicates, group_passages, split_groups

LONG = "قطار باری تازه‌ای از بندر انزلی به سوی آستارا راه افتاد و صبح سه‌شنبه به مرز رسید."


def test_near_duplicates_are_found_whatever_their_spaces_and_case():
    texts = [LONG, "A quite different passage on grapes", LONG.replace(" ", "  ") + "!", "a QUITE "
             "different passage, on grapes"]  # fmt: skip
    assert find_near_duplicates(texts) == [(0, 2), (1, 3)]


def test_texts_without_letters_are_near_duplicates_of_nothing():
    assert find_near_duplicates(["…", "—", "", "!"]) == []


def test_a_missing_library_names_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(MissingExtraError, match=r"pip install -e '\.\[data\]'"):
        find_near_duplicates([LONG])


def test_a_group_holds_an_article_and_what_nearly_repeats_it():
    groups = group_passages(["a", "a", "b", "c", "b"], [(1, 3)])
    assert groups.tolist() == [0, 0, 1, 0, 1]
    assert group_passages([]).tolist() == []


@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["fa", "ar"])), min_size=1, max_size=60),
    st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_no_group_is_cut_and_the_same_seed_gives_the_same_split(rows, seed):
    groups = group_passages([group for group, _ in rows])
    strata = [[language] for _, language in rows]
    split = split_groups(groups, strata, seed=seed)
    assert len(split) == len(rows) and set(split.tolist()) <= {0, 1, 2}
    for group in set(groups.tolist()):
        assert len(set(split[groups == group].tolist())) == 1
    assert split.tolist() == split_groups(groups, strata, seed=seed).tolist()


def test_every_stratum_is_shared_out_as_asked():
    strata = [["fa", "fa/energy"] if k % 10 == 0 else ["fa"] for k in range(200)]
    split = split_groups(np.arange(200), strata)
    assert Counter(split.tolist()) == {0: 140, 1: 30, 2: 30}
    assert Counter(split[::10].tolist()) == {0: 14, 1: 3, 2: 3}


def test_passages_with_a_split_keep_it_and_the_rest_fill_what_is_missing():
    fixed = np.array([2] * 30 + [-1] * 70)
    split = split_groups(np.arange(100), [["fa"]] * 100, fixed=fixed)
    assert split[:30].tolist() == [2] * 30
    # Test already has twice its share of 15, so it gets nothing more.
    assert Counter(split[30:].tolist()) in ({0: 62, 1: 8}, {0: 63, 1: 7})


def test_fixing_nothing_is_the_same_as_placing_everything():
    strata = [[("fa", "ar")[k % 2], f"t{k % 3}"] for k in range(50)]
    free = np.full(50, -1)
    assert (
        split_groups(np.arange(50), strata, fixed=free).tolist()
        == split_groups(np.arange(50), strata).tolist()
    )


@pytest.mark.parametrize("shares", [(0.5, 0.6), (1.0, 0.0), (1.2, -0.2)])
def test_shares_that_do_not_sum_to_one_are_refused(shares):
    with pytest.raises(ValueError, match="expected positive shares summing to 1"):
        split_groups(np.array([0]), [["fa"]], shares=shares)
