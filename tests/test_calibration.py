import json
import logging

import numpy as np
import pytest

from relclass.calibration import CALIBRATIONS, Calibration, fit_calibration, sigmoid


@pytest.fixture
def passages():
    """Logits that are twice too sure and one too low, with labels drawn from the true ones."""
    rng = np.random.default_rng(0)
    true_logits = rng.normal(-1.0, 2.0, size=(4000, 2))
    y_true = (rng.random(true_logits.shape) < sigmoid(true_logits)).astype(np.uint8)
    return y_true, 2.0 * true_logits - 1.0


def test_sigmoid_is_right_by_hand_and_does_not_overflow():
    np.testing.assert_allclose(sigmoid(np.array([0.0, np.log(3.0)])), [0.5, 0.75])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_array_equal(sigmoid(np.array([-1e9, 1e9])), [0.0, 1.0])


def test_no_calibration_is_the_sigmoid_for_any_number_of_topics():
    logits = np.array([[0.0, -2.0, 3.0]])
    y_prob = Calibration().apply(logits)
    assert y_prob.dtype == np.float32
    np.testing.assert_allclose(y_prob, sigmoid(logits), rtol=1e-6)


def test_platt_finds_the_slope_and_intercept_that_made_the_labels(passages):
    y_true, logits = passages  # true logit = 0.5 * logit + 0.5
    for topic in fit_calibration(y_true, logits, method="platt").parameters:
        assert topic["slope"][0] == pytest.approx(0.5, abs=0.05)
        assert topic["intercept"][0] == pytest.approx(0.5, abs=0.12)


def test_temperature_moves_the_slope_alone(passages):
    y_true, logits = passages
    for topic in fit_calibration(y_true, logits + 1.0, method="temperature").parameters:
        assert topic["slope"][0] == pytest.approx(0.5, abs=0.05)
        assert topic["intercept"] == (0.0,)


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_a_calibration_lowers_the_log_loss_and_keeps_the_order(passages, method):
    y_true, logits = passages
    y_prob = fit_calibration(y_true, logits, method=method).apply(logits)
    plain = Calibration().apply(logits)

    def log_loss(p):
        p = np.clip(p, 1e-6, 1 - 1e-6)
        return -np.log(np.where(y_true == 1, p, 1 - p)).mean()

    assert log_loss(y_prob) < log_loss(plain) - 0.01
    for topic in range(2):
        in_order = y_prob[np.argsort(logits[:, topic]), topic]
        assert (np.diff(in_order) >= 0).all()


def test_isotonic_is_right_by_hand_and_flat_outside_its_knots():
    y_true = np.array([[0], [1], [0], [1], [1]])
    logits = np.array([[-2.0], [-1.0], [0.0], [1.0], [2.0]])
    calibration = fit_calibration(y_true, logits, method="isotonic")
    y_prob = calibration.apply(np.array([[-9.0], [-0.5], [9.0]]))
    np.testing.assert_allclose(y_prob[:, 0], [0.0, 0.5, 1.0])


def test_weights_count_as_repeated_passages(passages):
    y_true, logits = (array[:300] for array in passages)
    weights = np.ones(300)
    weights[::3] = 3.0
    repeated = np.repeat(np.arange(300), weights.astype(int))
    for method in CALIBRATIONS:
        weighted = fit_calibration(y_true, logits, method=method, weights=weights).apply(logits)
        copied = fit_calibration(y_true[repeated], logits[repeated], method=method).apply(logits)
        np.testing.assert_allclose(weighted, copied, atol=2e-4)


def test_weights_may_differ_by_topic(passages):
    y_true, logits = passages
    weights = np.ones(y_true.shape)
    weights[y_true[:, 1] == 1, 1] = 0.1
    calibration = fit_calibration(y_true, logits, method="platt", weights=weights)
    plain = fit_calibration(y_true, logits, method="platt")
    assert calibration.parameters[0] == plain.parameters[0]
    assert calibration.parameters[1]["intercept"][0] < plain.parameters[1]["intercept"][0] - 1


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
@pytest.mark.parametrize("label", [0, 1])
def test_a_topic_with_one_class_alone_keeps_the_sigmoid_and_says_so(method, label, caplog):
    y_true = np.full((6, 1), label)
    logits = np.linspace(-3, 3, 6)[:, None]
    with caplog.at_level(logging.WARNING):
        calibration = fit_calibration(y_true, logits, method=method)
    np.testing.assert_allclose(calibration.apply(logits), sigmoid(logits), atol=0.01)
    assert "column 0 cannot be calibrated" in caplog.text


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_logits_that_rank_backwards_keep_the_sigmoid(method, caplog):
    y_true = np.array([[1], [1], [1], [0], [0], [0]])
    logits = np.linspace(-3, 3, 6)[:, None]
    calibration = fit_calibration(y_true, logits, method=method)
    np.testing.assert_allclose(calibration.apply(logits), sigmoid(logits), atol=0.01)
    assert "plain sigmoid kept" in caplog.text


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_a_calibration_survives_json(passages, method):
    y_true, logits = passages
    calibration = fit_calibration(y_true, logits, method=method)
    copy = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
    assert copy == calibration
    np.testing.assert_array_equal(copy.apply(logits), calibration.apply(logits))


def test_fitting_twice_gives_the_same_numbers(passages):
    for method in CALIBRATIONS:
        first, second = (fit_calibration(*passages, method=method) for _ in range(2))
        assert first == second


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("plat", (), "calibration 'plat'.*did you mean 'platt'"),
        ("platt", (), "0 topics' parameters for calibration 'platt'"),
        ("none", ({"slope": (1.0,)},), "1 topics' parameters for calibration 'none'"),
        ("platt", ({"slope": (1.0,)},), r"expected \['intercept', 'slope'\]"),
        ("platt", ({"slope": (1.0, 2.0), "intercept": (0.0, 0.0)},), r"lengths \[2\]"),
        ("isotonic", ({"logits": (), "probabilities": ()},), r"lengths \[0\]"),
        ("isotonic", ({"logits": (0.0, 1.0), "probabilities": (0.0,)},), r"lengths \[1, 2\]"),
        ("isotonic", ({"logits": (1.0, 0.0), "probabilities": (0.0, 1.0)},), "do not ascend"),
        ("platt", ({"slope": (float("nan"),), "intercept": (0.0,)},), "not finite"),
        ("platt", ({"slope": (-1.0,), "intercept": (0.0,)},), "slope -1.0: expected one above 0"),
    ],
)
def test_parameters_that_do_not_fit_the_method_are_refused(method, parameters, message):
    with pytest.raises(ValueError, match=message):
        Calibration(method, parameters)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected keys method and parameters"),
        ({"method": "none"}, "expected keys method and parameters"),
        ({"method": "none", "parameters": [], "x": 1}, "expected keys method and parameters"),
        ({"method": "platt", "parameters": [{"slope": ["a"]}]}, "not numbers: could not convert"),
        ({"method": "platt", "parameters": [3]}, "not numbers"),
    ],
)
def test_a_dict_that_is_not_a_calibration_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        Calibration.from_dict(content)


def test_logits_of_another_shape_are_refused(passages):
    calibration = fit_calibration(*passages, method="platt")
    with pytest.raises(ValueError, match="logits of 3 topics but the calibration was fitted on 2"):
        calibration.apply(np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"shape \(3,\): expected \(n_passages, n_topics\)"):
        calibration.apply(np.zeros(3))


@pytest.mark.parametrize(
    ("y_true", "logits", "weights", "message"),
    [
        (np.zeros((2, 1)), np.zeros((3, 1)), None, r"y_true of shape \(2, 1\) and scores"),
        (np.zeros((0, 1)), np.zeros((0, 1)), None, "at least one passage"),
        (np.zeros(2), np.zeros(2), None, r"expected the same \(n_passages, n_topics\)"),
        (np.full((2, 1), 2), np.zeros((2, 1)), None, "values other than 0 and 1"),
        (np.zeros((2, 1)), np.full((2, 1), np.nan), None, "scores that are not finite"),
        (np.zeros((2, 2)), np.zeros((2, 2)), np.ones(3), r"weights of shape \(3, 1\)"),
        (np.zeros((2, 2)), np.zeros((2, 2)), np.ones((2, 3)), r"weights of shape \(2, 3\)"),
        (np.zeros((2, 1)), np.zeros((2, 1)), np.array([1.0, -1.0]), "weight that is negative"),
        (np.zeros((2, 1)), np.zeros((2, 1)), np.array([1.0, np.inf]), "not finite"),
    ],
)
def test_arrays_that_do_not_agree_are_refused(y_true, logits, weights, message):
    with pytest.raises(ValueError, match=message):
        fit_calibration(y_true, logits, method="platt", weights=weights)


def test_an_unknown_method_is_refused(passages):
    with pytest.raises(ValueError, match=r"'isotonix'.*did you mean 'isotonic'"):
        fit_calibration(*passages, method="isotonix")
