import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relclass.models.windows import (
    WindowRule,
    make_windows,
    pad,
    pool_windows,
    select_passages,
    split_ids,
    token_batches,
)

RULE = WindowRule(max_length=12, head=(0, 7), tail=(2,))


def passage(n_tokens: int) -> list[int]:
    return [0, 7, *range(100, 100 + n_tokens), 2]


def test_a_passage_within_the_limit_is_left_as_it_is():
    assert split_ids(passage(9), RULE) == [passage(9)]


@given(st.integers(min_value=10, max_value=200))
def test_no_token_of_a_long_passage_is_lost_and_its_windows_are_alike(n_tokens):
    windows = split_ids(passage(n_tokens), RULE)
    assert len({len(window) for window in windows}) == 1
    assert len(windows[0]) <= 12
    assert all(window[:2] == [0, 7] and window[-1] == 2 for window in windows)
    seen = {token for window in windows for token in window[2:-1]}
    assert seen == set(range(100, 100 + n_tokens))


def test_neighbouring_windows_overlap_so_that_no_phrase_is_only_seen_broken():
    first, second, *_ = split_ids(passage(30), RULE)
    assert len(set(first[2:-1]) & set(second[2:-1])) >= 2


def test_a_passage_just_beyond_the_limit_costs_little_more_than_its_tokens():
    first, second = split_ids(passage(10), RULE)
    assert (len(first), len(second)) == (9, 9)  # 6 tokens of text each, 2 of them shared


def test_a_limit_without_room_for_text_is_refused():
    with pytest.raises(ValueError, match="Got max_length 3 but expected more than the 3 special"):
        WindowRule(max_length=3, head=(0, 7), tail=(2,))


def test_a_passage_takes_the_highest_logit_of_its_windows_by_hand():
    logits = np.array([[1.0, -5.0], [-2.0, 3.0], [0.5, 0.5]], dtype=np.float32)
    pooled = pool_windows(logits, np.array([0, 0, 1]), 2)
    assert pooled.tolist() == [[1.0, 3.0], [0.5, 0.5]]


def test_windows_know_their_passage():
    windows = make_windows([passage(3), passage(30), passage(0)], RULE)
    assert windows.passage.tolist() == [0, 1, 1, 1, 1, 2]
    assert windows.n_passages == 3
    assert windows.lengths.tolist() == [6, 12, 12, 12, 12, 3]


@given(
    st.lists(st.integers(min_value=1, max_value=300), max_size=60),
    st.integers(min_value=16, max_value=1000),
)
def test_batches_hold_every_window_once_and_keep_to_the_budget(lengths, max_tokens):
    array = np.array(lengths, dtype=np.int64)
    batches = list(token_batches(array, max_tokens=max_tokens))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * array[batch].max() <= max_tokens


def test_padding_takes_the_given_id_and_is_masked():
    input_ids, mask = pad([[5, 6, 7], [8]], pad_token_id=9)
    assert input_ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert input_ids.dtype == mask.dtype == np.int64


def test_chosen_passages_keep_all_their_windows():
    windows = make_windows([passage(3), passage(30), passage(4), passage(20)], RULE)
    some = select_passages(windows, np.array([1, 2]))
    expected = make_windows([passage(30), passage(4)], RULE)
    assert some.input_ids == expected.input_ids
    assert some.passage.tolist() == expected.passage.tolist()
    assert some.n_passages == 2
