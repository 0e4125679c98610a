import numpy as np
import pytest

from relclass.thresholds import (
    CANDIDATES,
    apply_thresholds,
    nested_threshold_scores,
    tune_thresholds,
)


def make_passages(n_passages=600, seed=0):
    rng = np.random.default_rng(seed)
    y_true = (rng.random((n_passages, 3)) < [0.4, 0.2, 0.05]).astype(np.uint8)
    return y_true, rng.normal(size=y_true.shape) + 2.5 * y_true - 2.0


def macro_f1(y_true, y_pred):
    scores = []
    for truth, guess in zip(y_true.T, y_pred.T, strict=True):
        hits = int((truth & guess).sum())
        scores.append(2 * hits / max(1, int(truth.sum()) + int(guess.sum())))
    return np.mean(scores)


def test_a_probability_at_its_threshold_takes_the_topic():
    y_pred = apply_thresholds(np.array([[0.5, 0.5], [0.49, 0.9]]), np.array([0.5, 0.6]))
    assert y_pred.dtype == np.uint8
    assert y_pred.tolist() == [[1, 0], [0, 1]]


def test_no_passage_gives_no_row():
    assert apply_thresholds(np.zeros((0, 2)), np.array([0.5, 0.5])).shape == (0, 2)


@pytest.mark.parametrize("shape", [(3,), (1,), (2, 1)])
def test_thresholds_of_another_codebook_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(n_passages, n_topics\) and \(n_topics,\)"):
        apply_thresholds(np.zeros((4, 2)), np.full(shape, 0.5))


def test_the_global_threshold_is_as_good_as_any_that_trying_all_finds():
    y_true, logits = make_passages()
    y_prob = 1 / (1 + np.exp(-logits))
    tuned = tune_thresholds(y_true, y_prob, tuning="global")
    assert len(set(tuned)) == 1
    best = max(macro_f1(y_true, (y_prob >= t).astype(np.uint8)) for t in CANDIDATES)
    assert macro_f1(y_true, apply_thresholds(y_prob, tuned)) >= best - 0.01


def test_a_threshold_lies_in_the_middle_of_the_gap():
    y_true = np.array([[0], [0], [1], [1]])
    y_prob = np.array([[0.1], [0.3], [0.7], [0.9]])
    assert tune_thresholds(y_true, y_prob)[0] == pytest.approx(0.5, abs=0.01)


def test_a_topic_of_many_positives_goes_its_own_way_and_a_rare_one_stays_near_the_others():
    rng = np.random.default_rng(1)
    y_true = np.zeros((1000, 2), dtype=int)
    y_true[:400, 0], y_true[:2, 1] = 1, 1
    y_prob = np.where(y_true == 1, 0.9, 0.1) + rng.uniform(-0.05, 0.05, size=y_true.shape)
    y_prob[:400, 0] -= 0.65  # the common topic's gap lies between 0.15 and 0.2
    own = tune_thresholds(y_true, y_prob, tuning="per_topic")
    common = tune_thresholds(y_true, y_prob, tuning="global")
    assert own[0] < 0.21
    assert abs(own[1] - common[1]) < 0.2 * abs(0.5 - common[1]) + 1e-9


def test_a_topic_without_positives_takes_the_global_threshold():
    y_true, logits = make_passages()
    y_true[:, 2] = 0
    y_prob = 1 / (1 + np.exp(-logits))
    tuned = tune_thresholds(y_true, y_prob, tuning="per_topic")
    assert tuned[2] == tune_thresholds(y_true, y_prob, tuning="global")[2]


@pytest.mark.parametrize("tuning", ["global", "per_topic"])
@pytest.mark.parametrize("probability", [0.0, 1.0, 0.5])
def test_a_threshold_stays_inside_its_limits_whatever_comes(tuning, probability):
    y_true = np.array([[1, 0], [0, 1], [1, 1]])
    tuned = tune_thresholds(y_true, np.full((3, 2), probability), tuning=tuning)
    assert ((tuned >= 0.05) & (tuned <= 0.95)).all()


def test_weights_count_as_repeated_passages():
    y_true, logits = make_passages(200)
    y_prob = 1 / (1 + np.exp(-logits))
    weights = np.random.default_rng(0).integers(1, 5, size=200)
    repeated = np.repeat(np.arange(200), weights)
    for tuning in ("global", "per_topic"):
        np.testing.assert_allclose(
            tune_thresholds(y_true, y_prob, tuning=tuning, weights=weights),
            tune_thresholds(y_true[repeated], y_prob[repeated], tuning=tuning),
        )


def test_a_fixed_threshold_is_taken_as_it_is():
    y_true, logits = make_passages(10)
    y_prob = 1 / (1 + np.exp(-logits))
    assert tune_thresholds(y_true, y_prob, tuning="fixed", fixed=0.3).tolist() == [0.3] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tuning": "per-topic"}, r"tuning 'per-topic'.*did you mean 'per_topic'"),
        ({"fixed": 1.0}, "fixed threshold 1.0: expected one between 0 and 1"),
        ({"y_prob": np.full((2, 1), 1.5)}, "outside .0, 1.: calibrate the logits first"),
        ({"y_prob": np.full((3, 1), 0.5)}, r"y_true of shape \(2, 1\)"),
    ],
)
def test_what_cannot_be_tuned_is_refused(changes, message):
    arguments = {"y_true": np.array([[0], [1]]), "y_prob": np.full((2, 1), 0.5)} | changes
    with pytest.raises(ValueError, match=message):
        tune_thresholds(**arguments)


def test_the_nested_check_covers_every_choice_and_sees_through_overfitting():
    y_true, logits = make_passages(300)
    scores = nested_threshold_scores(y_true, logits, n_repeats=2)
    assert len({(score.calibration, score.tuning) for score in scores}) == len(scores) == 12
    assert scores == sorted(scores, key=lambda score: -score.macro_f1)
    per_topic = [score for score in scores if score.tuning == "per_topic"]
    assert all(score.seen_macro_f1 > score.macro_f1 for score in per_topic)
    plain = next(s for s in scores if (s.calibration, s.tuning) == ("none", "fixed"))
    y_pred = (logits >= 0).astype(np.uint8)  # nothing is fitted: unseen and seen are the same
    assert plain.macro_f1 == pytest.approx(macro_f1(y_true, y_pred)) == plain.seen_macro_f1


def test_a_topic_that_no_passage_has_does_not_lower_the_nested_scores():
    y_true, logits = make_passages(100)
    absent = np.hstack([y_true, np.zeros((100, 1))]), np.hstack([logits, np.full((100, 1), 3.0)])
    both = [nested_threshold_scores(*arrays, n_repeats=1) for arrays in ((y_true, logits), absent)]
    fixed = [
        next(s for s in scores if (s.calibration, s.tuning) == ("none", "fixed")) for scores in both
    ]
    assert fixed[0].macro_f1 == pytest.approx(fixed[1].macro_f1)
    assert fixed[0].seen_macro_f1 == pytest.approx(fixed[1].seen_macro_f1)


def test_noise_is_worth_nothing_in_the_nested_check():
    rng = np.random.default_rng(0)
    y_true = (rng.random((100, 3)) < 0.1).astype(int)
    logits = rng.normal(size=y_true.shape)
    scores = {
        (s.calibration, s.tuning): s for s in nested_threshold_scores(y_true, logits, n_repeats=2)
    }
    isotonic = scores["isotonic", "per_topic"]
    assert isotonic.seen_macro_f1 > isotonic.macro_f1 + 0.05


def test_the_nested_check_is_the_same_for_the_same_seed_and_keeps_articles_whole():
    y_true, logits = make_passages(60)
    groups = [f"article-{i // 6}" for i in range(60)]
    first = nested_threshold_scores(y_true, logits, groups=groups, n_repeats=1, seed=3)
    assert first == nested_threshold_scores(y_true, logits, groups=groups, n_repeats=1, seed=3)
    assert first != nested_threshold_scores(y_true, logits, n_repeats=1, seed=3)
    # an article a label: with each held out whole, none of its twins is seen
    twins = np.repeat(np.eye(10, dtype=int)[:, :3], 6, axis=0)
    scores = nested_threshold_scores(twins, twins * 2.0 - 1, groups=groups, n_repeats=1)
    assert scores[0].macro_f1 == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_folds": 1}, "1 folds and 5 repeats: expected 2 folds or more"),
        ({"n_repeats": 0}, "5 folds and 0 repeats"),
        ({"groups": ["a"] * 20}, "Got 1 groups, 5 folds"),
        ({"groups": ["a"] * 3}, "Got 3 groups for 20 passages"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        nested_threshold_scores(*make_passages(20), **changes)
