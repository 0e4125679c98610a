import warnings

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from relclass.metrics import (
    OVERALL_METRICS,
    TOPIC_METRICS,
    abstention_curve,
    average_precision,
    brier_score,
    decision_confidence,
    error_at_coverage,
    expected_calibration_error,
    hamming_loss,
    infer_thresholds,
    macro_f1,
    micro_f1,
    precision_recall_f1,
    precision_recall_points,
    reliability_curve,
    specificity,
    subset_accuracy,
    summarise,
)

# Four passages, three topics; worked by hand below.
Y_TRUE = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=np.uint8)
Y_PRED = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=np.uint8)
Y_PROB = np.array([[0.9, 0.2, 0.1], [0.8, 0.4, 0.2], [0.7, 0.6, 0.3], [0.1, 0.1, 0.5]])


@pytest.fixture
def random_arrays():
    rng = np.random.default_rng(3)
    y_true = (rng.random((200, 4)) < [0.3, 0.2, 0.1, 0.05]).astype(np.uint8)
    y_prob = np.clip(y_true * 0.4 + rng.random((200, 4)) * 0.6, 0, 1).round(2)
    return y_true, (y_prob >= 0.5).astype(np.uint8), y_prob


def test_precision_recall_and_f1_are_those_worked_by_hand():
    precision, recall, f1 = precision_recall_f1(Y_TRUE, Y_PRED)
    np.testing.assert_allclose(precision[:2], [2 / 3, 1])
    np.testing.assert_allclose(recall[:2], [1, 1 / 2])
    np.testing.assert_allclose(f1[:2], [4 / 5, 2 / 3])


def test_macro_f1_averages_the_topics_that_have_a_positive():
    assert macro_f1(Y_TRUE, Y_PRED) == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_micro_f1_counts_all_marks_together():
    # 3 right marks, 2 false, 1 missed
    assert micro_f1(Y_TRUE, Y_PRED) == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))


def test_subset_accuracy_and_hamming_loss_are_those_worked_by_hand():
    assert subset_accuracy(Y_TRUE, Y_PRED) == 1 / 4
    assert hamming_loss(Y_TRUE, Y_PRED) == pytest.approx(3 / 12)


def test_specificity_is_the_share_of_negatives_left_alone():
    np.testing.assert_allclose(specificity(Y_TRUE, Y_PRED), [1 / 2, 1, 3 / 4])


def test_a_topic_without_positives_is_undefined_and_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = summarise(Y_TRUE, Y_PRED, Y_PROB)
    for name in ("precision", "recall", "f1", "average_precision"):
        assert np.isnan(summary.by_topic[name][2]), name
        assert not np.isnan(summary.by_topic[name][:2]).any(), name
    assert summary.by_topic["specificity"][2] == 3 / 4


def test_without_any_positive_f1_is_none_and_not_zero():
    nothing = np.zeros_like(Y_TRUE)
    assert macro_f1(nothing, Y_PRED) is None
    assert micro_f1(nothing, Y_PRED) is None


def test_precision_is_undefined_where_nothing_was_given_the_topic():
    precision, recall, f1 = precision_recall_f1(Y_TRUE, np.zeros_like(Y_PRED))
    assert np.isnan(precision[:2]).all()
    np.testing.assert_array_equal(recall[:2], 0)
    np.testing.assert_array_equal(f1[:2], 0)


def test_a_topic_that_is_never_given_counts_as_0_in_macro_precision():
    y_true = np.eye(4, dtype=np.uint8)
    y_pred = y_true * np.array([1, 0, 0, 0], dtype=np.uint8)
    found = summarise(y_true, y_pred, y_true.astype(float)).overall["macro_precision"]
    assert found == precision_score(y_true, y_pred, average="macro", zero_division=0) == 0.25


def test_specificity_is_undefined_where_every_passage_has_the_topic():
    assert np.isnan(specificity(np.ones((3, 1)), np.ones((3, 1)))[0])


def test_figures_agree_with_scikit_learn(random_arrays):
    y_true, y_pred, y_prob = random_arrays
    summary = summarise(y_true, y_pred, y_prob)
    for average in ("macro", "micro"):
        for name, function in (("f1", f1_score), ("precision", precision_score)):
            expected = function(y_true, y_pred, average=average)
            assert summary.overall[f"{average}_{name}"] == pytest.approx(expected)
    assert summary.overall["macro_recall"] == pytest.approx(
        recall_score(y_true, y_pred, average="macro")
    )
    assert summary.overall["macro_average_precision"] == pytest.approx(
        average_precision_score(y_true, y_prob, average="macro")
    )


def test_the_summary_has_every_metric_that_the_module_names(random_arrays):
    summary = summarise(*random_arrays)
    assert set(summary.overall) == set(OVERALL_METRICS)
    assert set(summary.by_topic) == set(TOPIC_METRICS)


def test_one_topic_alone_is_scored_like_the_same_topic_among_others(random_arrays):
    y_true, y_pred, y_prob = random_arrays
    alone = summarise(y_true[:, :1], y_pred[:, :1], y_prob[:, :1])
    among = summarise(y_true, y_pred, y_prob)
    for name in TOPIC_METRICS:
        assert alone.by_topic[name][0] == pytest.approx(among.by_topic[name][0]), name
    assert alone.overall["micro_f1"] == pytest.approx(alone.overall["macro_f1"])


def test_average_precision_is_that_worked_by_hand():
    y_true = np.array([[1], [0], [1], [0]])
    y_prob = np.array([[0.9], [0.8], [0.7], [0.1]])
    # at the first positive precision is 1/1, at the second 2/3; each gains half of the recall
    assert average_precision(y_true, y_prob)[0] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_brier_score_is_the_mean_squared_error():
    score = brier_score(np.array([[1], [0]]), np.array([[0.8], [0.4]]))
    np.testing.assert_allclose(score, [(0.2**2 + 0.4**2) / 2])


def test_calibration_error_is_that_worked_by_hand():
    y_prob = np.array([[0.15], [0.15], [0.95], [0.95]])
    y_true = np.array([[0], [1], [1], [1]])
    # bin 0.1-0.2: |0.15 - 0.5| for 2 of 4; bin 0.9-1: |0.95 - 1| for 2 of 4
    expected = 0.5 * 0.35 + 0.5 * 0.05
    np.testing.assert_allclose(expected_calibration_error(y_true, y_prob), [expected])


def test_reliability_bins_agree_with_scikit_learn(random_arrays):
    y_true, _, y_prob = random_arrays
    y_prob = y_prob * 0.997 + 0.001  # off the edges: scikit-learn's bins are closed above
    bins = [b for b in reliability_curve(y_true[:, 0], y_prob[:, 0]) if b.n_passages]
    share, mean = calibration_curve(y_true[:, 0], y_prob[:, 0], n_bins=10)
    np.testing.assert_allclose([b.share_positive for b in bins], share)
    np.testing.assert_allclose([b.mean_probability for b in bins], mean)
    assert sum(b.n_passages for b in bins) == len(y_true)


def test_probability_one_is_in_the_last_bin_and_empty_bins_have_no_figures():
    bins = reliability_curve(np.array([1, 1]), np.array([1.0, 0.9]))
    assert [b.n_passages for b in bins] == [0] * 9 + [2]
    assert bins[0].share_positive is None and bins[0].mean_probability is None


def test_the_precision_recall_curve_ascends_and_is_thinned(random_arrays):
    y_true, _, y_prob = random_arrays
    points = precision_recall_points(y_true[:, 0], y_prob[:, 0], max_points=12)
    assert 2 <= len(points) <= 12
    assert [p.x for p in points] == sorted(p.x for p in points)
    assert points[-1].x == 1


def test_the_precision_recall_curve_of_an_absent_topic_is_empty():
    assert precision_recall_points(np.zeros(3), np.full(3, 0.5)) == ()


def test_thresholds_are_found_between_blank_and_marked():
    y_prob = np.array([[0.2, 0.9], [0.4, 0.1], [0.6, 0.2]])
    y_pred = np.array([[0, 1], [0, 0], [1, 0]])
    np.testing.assert_allclose(infer_thresholds(y_prob, y_pred), [0.5, 0.55])


@pytest.mark.parametrize("y_pred", [[[0], [0]], [[1], [1]], [[1], [0]]])
def test_thresholds_that_the_marks_do_not_tell_are_one_half(y_pred):
    np.testing.assert_allclose(infer_thresholds(np.array([[0.1], [0.3]]), np.array(y_pred)), [0.5])


def test_confidence_is_that_of_the_least_certain_topic():
    confidence = decision_confidence(np.array([[1.0, 0.0], [0.8, 0.1]]), np.array([0.6, 0.2]))
    np.testing.assert_allclose(confidence, [1, 0.5])


def test_the_abstention_curve_is_that_worked_by_hand():
    y_true = np.array([[1], [0], [1], [0]])
    y_prob = np.array([[0.9], [0.2], [0.45], [0.05]])
    y_pred = (y_prob >= 0.5).astype(np.uint8)
    points = abstention_curve(y_true, y_pred, y_prob)
    # the third passage is wrong and the least certain: no error until it must be answered
    assert [p.x for p in points] == [0.25, 0.5, 0.75, 1]
    assert [p.y for p in points] == [0, 0, 0, 0.25]
    assert [error_at_coverage(points, share) for share in (0.6, 1.0)] == [0, 0.25]
    assert error_at_coverage((), 0.5) is None


def test_passages_of_equal_confidence_are_answered_together():
    y_prob = np.array([[0.9], [0.9], [0.1]])
    points = abstention_curve(np.array([[1], [0], [0]]), (y_prob > 0.5).astype(int), y_prob)
    assert points[-1].x == 1 and points[-1].y == pytest.approx(1 / 3)
    assert 1 / 3 not in [p.x for p in points]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((Y_TRUE, Y_PRED[:3], Y_PROB), r"shapes \(4, 3\), \(3, 3\)"),
        ((Y_TRUE[:, 0], Y_PRED[:, 0], Y_PROB[:, 0]), "expected one shape"),
        ((Y_TRUE * 2, Y_PRED, Y_PROB), "y_true with values other than 0 and 1"),
        ((Y_TRUE, Y_PRED, Y_PROB * 5), r"outside \[0, 1\]"),
        ((Y_TRUE, Y_PRED, np.full_like(Y_PROB, np.nan)), "y_prob with NaN"),
    ],
)
def test_arrays_that_cannot_belong_together_are_refused(arrays, message):
    with pytest.raises(ValueError, match=message):
        summarise(*arrays)


def test_no_passages_give_no_figures():
    empty = np.zeros((0, 2))
    summary = summarise(empty, empty, empty)
    assert all(np.isnan(value) for value in summary.overall.values())
    assert subset_accuracy(empty, empty) is None and hamming_loss(empty, empty) is None
    assert abstention_curve(empty, empty, empty) == ()
