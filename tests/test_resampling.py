import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relclass.metrics import summarise
from relclass.resampling import (
    GroupSums,
    Labelling,
    draw_articles,
    number,
    percentile_interval,
    resample,
    weighted_metrics,
)


def random_labelling(seed: int, *, n_passages: int, n_articles: int) -> Labelling:
    rng = np.random.default_rng(seed)
    y_true = (rng.random((n_passages, 3)) < [0.4, 0.2, 0.05]).astype(np.uint8)
    y_prob = np.clip(y_true * 0.3 + rng.random((n_passages, 3)) * 0.7, 0, 1).round(1)
    y_pred = (y_prob >= 0.5).astype(np.uint8)
    return Labelling(y_true, y_pred, y_prob, number(rng.integers(0, n_articles, n_passages)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_weighted_figures_equal_those_of_repeated_passages(seed):
    labelling = random_labelling(seed, n_passages=60, n_articles=12)
    weights = draw_articles(labelling.n_groups, 1, np.random.default_rng(seed))
    times = weights[0][labelling.groups]
    expected = summarise(
        np.repeat(labelling.y_true, times, axis=0),
        np.repeat(labelling.y_pred, times, axis=0),
        np.repeat(labelling.y_prob, times, axis=0),
    )
    found = weighted_metrics(GroupSums(labelling), weights.astype(float))
    for name, value in expected.by_topic.items():
        np.testing.assert_allclose(found.by_topic[name][0], value, atol=1e-9, err_msg=name)
    whole = summarise(labelling.y_true, labelling.y_pred, labelling.y_prob)
    for name, value in expected.overall.items():
        # the recall is undefined where a topic has no positive, and nowhere else
        if name.startswith("macro_") and not np.array_equal(
            np.isnan(whole.by_topic["recall"]), np.isnan(expected.by_topic["recall"])
        ):
            assert np.isnan(found.overall[name][0]), name
        else:
            np.testing.assert_allclose(found.overall[name][0], value, atol=1e-9, err_msg=name)


def test_a_macro_figure_is_undefined_in_a_resample_that_lacks_a_topic():
    marks = np.array([[1, 0], [0, 1]], dtype=np.uint8)
    labelling = Labelling(marks, marks, marks.astype(float), np.array([0, 1]))
    found = weighted_metrics(GroupSums(labelling), np.array([[1.0, 1.0], [2.0, 0.0]]))
    assert found.overall["macro_f1"][0] == 1
    assert np.isnan(found.overall["macro_f1"][1])


def test_a_topic_never_given_in_a_resample_counts_as_0_in_its_macro_precision():
    y_true = np.array([[1, 1], [1, 1]], dtype=np.uint8)
    y_pred = np.array([[1, 1], [1, 0]], dtype=np.uint8)
    labelling = Labelling(y_true, y_pred, y_pred.astype(float), np.array([0, 1]))
    found = weighted_metrics(GroupSums(labelling), np.array([[1.0, 1.0], [0.0, 2.0]]))
    assert found.overall["macro_precision"].tolist() == [1.0, 0.5]
    assert np.isnan(found.by_topic["precision"][1, 1])


def test_an_article_is_drawn_whole():
    """Fifty passages that stand or fall together vary as one."""
    one = np.ones((100, 1), dtype=np.uint8)
    wrong = np.repeat([1, 0], 50)[:, None].astype(np.uint8)
    apart = resample(Labelling(one, wrong, wrong * 1.0, np.arange(100)), ranked=False)
    together = resample(Labelling(one, wrong, wrong * 1.0, np.repeat([0, 1], 50)), ranked=False)
    assert set(together.overall["subset_accuracy"]) == {0, 0.5, 1}
    assert together.overall["subset_accuracy"].std() > 5 * apart.overall["subset_accuracy"].std()


def test_the_bootstrap_has_the_spread_of_theory():
    """The standard error of a share p of n is sqrt(p (1 - p) / n)."""
    y_true = np.ones((400, 1), dtype=np.uint8)
    y_pred = np.repeat([1, 0], [300, 100])[:, None].astype(np.uint8)
    samples = resample(
        Labelling(y_true, y_pred, y_pred * 1.0, np.arange(400)), n_resamples=2000, ranked=False
    ).overall["subset_accuracy"]
    assert samples.mean() == pytest.approx(0.75, abs=0.005)
    assert samples.std() == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.08)


def test_equal_seeds_give_equal_figures_and_chunks_change_nothing(monkeypatch):
    labelling = random_labelling(1, n_passages=50, n_articles=9)
    whole = resample(labelling, n_resamples=40, seed=4).overall["macro_f1"]
    monkeypatch.setattr("relclass.resampling.CELLS", 350)
    np.testing.assert_array_equal(
        resample(labelling, n_resamples=40, seed=4).overall["macro_f1"], whole
    )
    other = resample(labelling, n_resamples=40, seed=5).overall["macro_f1"]
    assert not np.array_equal(other, whole)


def test_percentiles_cut_off_both_tails():
    low, high = percentile_interval(np.arange(1001) / 1000, confidence=0.9)
    assert (low, high) == pytest.approx((0.05, 0.95))


def test_a_figure_that_half_of_the_resamples_lack_has_no_interval():
    assert percentile_interval(np.array([np.nan, np.nan, 0.4, 0.5])) is None
    assert percentile_interval(np.array([np.nan, 0.4, 0.5, 0.6])) is not None


def test_a_thousand_resamples_of_three_thousand_passages_take_seconds():
    labelling = random_labelling(0, n_passages=3000, n_articles=900)
    start = time.process_time()
    resample(labelling, n_resamples=1000)
    assert time.process_time() - start < 5
