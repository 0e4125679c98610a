import pytest
from hypothesis import given
from hypothesis import strategies as st

from relclass.batching import BatchSettings, deduplicate, plan_batches, windows

lengths_lists = st.lists(st.integers(0, 5000), max_size=60)
some_settings = st.builds(
    BatchSettings,
    window=st.integers(1, 100),
    max_chars=st.integers(1, 20_000),
    max_passages=st.integers(1, 40),
)


@given(st.lists(st.integers()), st.integers(1, 7))
def test_windows_lose_nothing_and_keep_the_order(items, size):
    cut = list(windows(iter(items), size))
    assert [item for window in cut for item in window] == items
    assert all(len(window) == size for window in cut[:-1])
    assert all(1 <= len(window) <= size for window in cut)


def test_windows_read_no_further_than_they_are_asked():
    taken = []
    stream = windows((taken.append(number) or number for number in range(100)), 4)
    assert next(stream) == [0, 1, 2, 3]
    assert len(taken) == 4


@given(st.lists(st.sampled_from("abcde"), max_size=40))
def test_each_key_finds_its_first_equal(keys):
    first, inverse = deduplicate(keys)
    assert [keys[first[place]] for place in inverse] == keys
    assert len({keys[position] for position in first}) == len(first) == len(set(keys))
    assert first == sorted(first)


@given(lengths_lists, some_settings)
def test_every_passage_is_in_exactly_one_batch(lengths, settings):
    batches = plan_batches(lengths, settings)
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))


@given(lengths_lists, some_settings)
def test_no_batch_goes_over_its_budget_unless_it_is_a_single_passage(lengths, settings):
    for batch in plan_batches(lengths, settings):
        longest = max(1, *(lengths[position] for position in batch), 0)
        assert len(batch) <= settings.max_passages
        assert len(batch) == 1 or len(batch) * longest <= settings.max_chars


@given(lengths_lists, some_settings)
def test_batches_go_from_long_to_short(lengths, settings):
    order = [lengths[i] for batch in plan_batches(lengths, settings) for i in batch]
    assert order == sorted(lengths, reverse=True)


def test_a_full_budget_is_used_before_the_next_batch_is_begun():
    settings = BatchSettings(max_chars=100, max_passages=64)
    assert plan_batches([10] * 25, settings) == [
        list(range(10)),
        list(range(10, 20)),
        list(range(20, 25)),
    ]


@pytest.mark.parametrize("name", ["window", "max_chars", "max_passages"])
def test_a_budget_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match=f"Got {name}=0 but expected 1 or more"):
        BatchSettings(**{name: 0})
