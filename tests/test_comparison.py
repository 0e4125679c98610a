from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import CODEBOOK, make_gold, make_output
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from relclass.comparison import (
    Comparison,
    Predicted,
    adjust_holm,
    compare,
    randomisation_p_value,
)
from relclass.errors import DataError
from relclass.evaluation import Bootstrap, evaluate

GOLD = make_gold(60)
QUICK = Bootstrap(n_resamples=200)


def output(skill, seed):
    return Predicted(*make_output(GOLD, skill=skill, seed=seed))


@pytest.fixture(scope="module")
def comparison():
    models = {"weak": output(0.2, 0), "strong": output(0.45, 1), "twin": output(0.2, 2)}
    return compare(GOLD, models, CODEBOOK, bootstrap=QUICK, n_shuffles=400)


def find(comparison, metric, first, second):
    wanted = (metric, first, second)
    return next(d for d in comparison.differences if (d.metric, d.first, d.second) == wanted)


def test_the_difference_is_that_of_the_two_figures(comparison):
    difference = find(comparison, "macro_f1", "weak", "strong")
    y_true = np.array([[t in p.topics for t in CODEBOOK.names] for p in GOLD])
    figures = [
        f1_score(y_true, output(skill, seed).y_pred, average="macro")
        for skill, seed in ((0.2, 0), (0.45, 1))
    ]
    assert difference.first_value == pytest.approx(figures[0])
    assert difference.second_value == pytest.approx(figures[1])
    assert difference.difference.value == pytest.approx(figures[1] - figures[0])


@pytest.mark.parametrize("metric", ["macro_f1", "macro_average_precision", "brier"])
def test_a_better_model_is_named_whichever_way_the_metric_points(comparison, metric):
    difference = find(comparison, metric, "weak", "strong")
    assert difference.verdict == "second"
    assert "strong is better" in str(difference)
    assert find(comparison, metric, "strong", "twin").verdict == "first"


def test_equally_good_models_are_within_noise(comparison):
    difference = find(comparison, "macro_f1", "weak", "twin")
    assert difference.verdict == "within noise"
    assert "within noise" in str(difference)
    assert difference.p_value > 0.05


def test_the_same_output_twice_differs_by_nothing():
    same = output(0.35, 0)
    found = compare(GOLD, {"a": same, "b": same}, CODEBOOK, bootstrap=QUICK, n_shuffles=100)
    for difference in found.differences:
        assert difference.difference.value == 0
        assert (difference.difference.low, difference.difference.high) == (0, 0)
        assert difference.p_value == 1
        assert difference.verdict == "within noise"


def test_p_values_of_models_that_do_not_differ_are_spread_evenly():
    """A test of level 5 % calls about one in twenty null differences significant."""
    gold = make_gold(25, seed=5)
    p_values = []
    for seed in range(40):
        models = {
            name: Predicted(*make_output(gold, skill=0.3, seed=1000 * k + seed))
            for k, name in enumerate("ab")
        }
        found = compare(
            gold, models, CODEBOOK, metrics=["micro_f1"], bootstrap=Bootstrap(0), n_shuffles=100
        )
        p_values.append(found.differences[0].p_value)
    assert 0.3 < np.mean(p_values) < 0.7
    assert np.mean(np.array(p_values) < 0.05) <= 0.15


def test_holm_agrees_with_a_worked_example():
    # 0.01 * 4, 0.02 * 3 (first two in order), then 0.03 * 2 and 0.04 * 1, never falling
    np.testing.assert_allclose(adjust_holm([0.01, 0.04, 0.03, 0.02]), [0.04, 0.06, 0.06, 0.06])
    # Holm 1979's rule stops at the first that fails: 0.9 keeps 0.95 from counting
    np.testing.assert_allclose(adjust_holm([0.95, 0.9, 0.001]), [1.0, 1.0, 0.003])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_adjusting_keeps_the_order_and_never_lowers(p_values):
    adjusted = adjust_holm(p_values)
    assert all(0 <= p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_the_p_value_counts_shuffles_at_least_as_far_from_zero():
    shuffled = np.array([0.3, -0.3, 0.1, 0.0, np.nan])
    assert randomisation_p_value(0.2, shuffled) == (3 + 1) / (5 + 1)
    assert randomisation_p_value(-0.3, shuffled) == (3 + 1) / (5 + 1)


def test_a_randomisation_test_agrees_with_all_shuffles_counted():
    """Three articles have eight shuffles; the exact test counts the same ones."""
    gold = [replace(p, topics=("energy",)) for p in make_gold(3)]
    y_prob = np.zeros((9, 4), dtype=np.float32)
    right, wrong = np.zeros((9, 4), dtype=np.uint8), np.zeros((9, 4), dtype=np.uint8)
    right[:, 2] = 1
    models = {"wrong": Predicted(y_prob, wrong), "right": Predicted(y_prob, right)}
    found = compare(
        gold, models, CODEBOOK, metrics=["subset_accuracy"], bootstrap=Bootstrap(0),
        n_shuffles=4000,
    )  # fmt: skip
    # only "none swapped" and "all swapped" reach a difference of 1: 2 of 8
    assert found.differences[0].p_value == pytest.approx(2 / 8, abs=0.02)


def test_a_metric_that_the_passages_do_not_define_is_undefined():
    gold = [replace(p, topics=()) for p in make_gold(6)]
    models = {"a": Predicted(*make_output(gold)), "b": Predicted(*make_output(gold, seed=1))}
    found = compare(gold, models, CODEBOOK, bootstrap=QUICK, n_shuffles=50)
    difference = find(found, "macro_f1", "a", "b")
    assert difference.difference.value is None and difference.p_value is None
    assert difference.verdict == "undefined"
    assert str(difference) == "macro_f1: undefined on these passages"


def test_p_values_are_adjusted_over_the_pairs_of_one_metric(comparison):
    chosen = [d for d in comparison.differences if d.metric == "macro_f1"]
    assert len(chosen) == 3
    assert [d.p_adjusted for d in chosen] == adjust_holm([d.p_value for d in chosen])


def test_a_comparison_survives_json(comparison):
    assert Comparison.from_json(comparison.to_json()) == comparison


def test_what_is_no_comparison_is_refused():
    with pytest.raises(DataError, match=r"c\.json: not a comparison"):
        Comparison.from_json("{}", where="c.json")


def test_one_model_is_refused():
    with pytest.raises(ValueError, match="Got 1 models but expected two or more"):
        compare(GOLD, {"a": output(0.3, 0)}, CODEBOOK)


def test_an_unknown_metric_is_refused():
    models = {"a": output(0.3, 0), "b": output(0.3, 1)}
    with pytest.raises(ValueError, match="metric='f2' but expected macro_f1"):
        compare(GOLD, models, CODEBOOK, metrics=["f2"])


def test_passages_of_one_article_are_refused():
    gold = [replace(p, article_id="one") for p in GOLD]
    with pytest.raises(ValueError, match="passages of one article"):
        compare(gold, {"a": output(0.3, 0), "b": output(0.3, 1)}, CODEBOOK)


def test_without_intervals_the_p_value_alone_decides():
    models = {"weak": output(0.2, 0), "strong": output(0.45, 1), "twin": output(0.2, 2)}
    found = compare(GOLD, models, CODEBOOK, bootstrap=Bootstrap(0), n_shuffles=400)
    better = find(found, "macro_f1", "weak", "strong")
    assert better.difference.low is None and better.p_adjusted < 0.05
    assert better.verdict == "second"
    assert find(found, "macro_f1", "weak", "twin").verdict == "within noise"


def test_a_topic_that_one_model_never_gives_counts_against_its_macro_precision():
    y_prob, y_pred = make_output(GOLD)
    blank = y_pred.copy()
    blank[:, 3] = 0
    models = {"a": Predicted(y_prob, y_pred), "b": Predicted(y_prob, blank)}
    settings = {"metrics": ["macro_precision"], "bootstrap": Bootstrap(0), "n_shuffles": 10}
    difference = compare(GOLD, models, CODEBOOK, **settings).differences[0]
    figures = evaluate(GOLD, y_prob, blank, CODEBOOK, bootstrap=Bootstrap(0)).overall.overall
    assert difference.second_value == pytest.approx(figures["macro_precision"].value)
