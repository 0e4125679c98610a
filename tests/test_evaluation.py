import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import CODEBOOK, TOPICS, make_gold, make_output, marks_of
from sklearn.metrics import f1_score

from relclass.errors import DataError
from relclass.evaluation import (
    Bootstrap,
    Estimate,
    Evaluation,
    Named,
    evaluate,
    read_evaluation,
    with_mistakes,
)

QUICK = Bootstrap(n_resamples=50)


@pytest.fixture(scope="module")
def evaluation():
    gold = make_gold()
    y_prob, y_pred = make_output(gold)
    result = evaluate(
        gold, y_prob, y_pred, CODEBOOK, names=Named("stub", "made up"), bootstrap=QUICK
    )
    return with_mistakes(result, gold, y_prob, y_pred, n_mistakes=5)


def test_an_evaluation_survives_json(evaluation):
    assert Evaluation.from_json(evaluation.to_json()) == evaluation


def test_json_has_no_nan(evaluation):
    json.loads(evaluation.to_json(), parse_constant=lambda name: pytest.fail(name))


def test_figures_are_those_of_scikit_learn(evaluation):
    gold = make_gold()
    _, y_pred = make_output(gold)
    expected = f1_score(marks_of(gold), y_pred, average="macro")
    assert evaluation.overall.overall["macro_f1"].value == pytest.approx(expected)
    assert evaluation.overall.n_passages == 90
    assert evaluation.overall.n_articles == 30
    assert evaluation.overall.n_positive["energy"] == marks_of(gold)[:, 2].sum()


def test_every_interval_holds_its_figure_or_is_absent(evaluation):
    for name, estimate in evaluation.overall.overall.items():
        if name == "ece":  # resampling raises it
            assert estimate.low is None and estimate.high is None
        else:
            assert estimate.low <= estimate.value <= estimate.high


def test_a_slice_is_scored_like_its_passages_alone(evaluation):
    gold = make_gold()
    y_prob, y_pred = make_output(gold)
    mask = np.array([p.language == "ar" for p in gold])
    alone = evaluate(
        [p for p in gold if p.language == "ar"], y_prob[mask], y_pred[mask], CODEBOOK,
        bootstrap=QUICK,
    )  # fmt: skip
    found = next(s for s in evaluation.slices if (s.dimension, s.name) == ("language", "ar"))
    assert found.scores == alone.overall


def test_a_topic_without_positives_in_a_slice_is_undefined_without_a_warning():
    gold = [
        replace(p, topics=tuple(t for t in p.topics if t != "karabakh"))
        if p.language == "ar"
        else p
        for p in make_gold()
    ]
    y_prob, y_pred = make_output(gold)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate(gold, y_prob, y_pred, CODEBOOK, bootstrap=QUICK)
    scores = next(s.scores for s in result.slices if s.name == "ar")
    for name in ("precision", "recall", "f1", "average_precision"):
        assert scores.by_topic["karabakh"][name] == Estimate(None)
        assert str(scores.by_topic["karabakh"][name]) == "undefined"
    assert scores.by_topic["karabakh"]["specificity"].value is not None
    assert scores.by_topic["energy"]["f1"].value is not None


def test_passages_of_one_article_have_figures_without_intervals():
    gold = [replace(p, article_id="one") for p in make_gold(3)]
    y_prob, y_pred = make_output(gold)
    figure = evaluate(gold, y_prob, y_pred, CODEBOOK).overall.overall["micro_f1"]
    assert figure.value is not None and figure.low is None


def test_a_topic_that_few_articles_have_gets_no_interval():
    gold = make_gold(12)
    gold = [replace(p, topics=tuple(t for t in p.topics if t != "karabakh")) for p in gold]
    gold[0] = replace(gold[0], topics=("karabakh",))
    y_prob, y_pred = make_output(gold)
    scores = evaluate(gold, y_prob, y_pred, CODEBOOK, bootstrap=QUICK).overall
    assert scores.by_topic["karabakh"]["recall"].value is not None
    assert scores.by_topic["karabakh"]["recall"].low is None
    assert scores.by_topic["karabakh"]["specificity"].low is not None
    assert scores.by_topic["energy"]["recall"].low is not None


def test_without_resamples_there_are_no_intervals():
    gold = make_gold(6)
    y_prob, y_pred = make_output(gold)
    result = evaluate(gold, y_prob, y_pred, CODEBOOK, bootstrap=Bootstrap(n_resamples=0))
    assert result.overall.overall["micro_f1"].low is None


def test_more_articles_give_a_narrower_interval():
    widths = []
    for n_articles in (12, 120):
        gold = make_gold(n_articles)
        y_prob, y_pred = make_output(gold)
        estimate = evaluate(gold, y_prob, y_pred, CODEBOOK, bootstrap=QUICK).overall.overall[
            "macro_f1"
        ]
        widths.append(estimate.high - estimate.low)
    assert widths[1] < widths[0] / 2


def test_mistakes_are_added_with_their_texts(evaluation):
    assert len(evaluation.mistakes) == 5
    assert all(mistake.text for mistake in evaluation.mistakes)


def test_an_evaluation_carries_no_text_unless_mistakes_are_asked_for():
    gold = make_gold(6)
    y_prob, y_pred = make_output(gold)
    written = evaluate(gold, y_prob, y_pred, CODEBOOK, bootstrap=QUICK).to_json()
    assert "Tuesday" not in written and "سه‌شنبه" not in written


@pytest.mark.parametrize(
    ("estimate", "text"),
    [(Estimate(0.5), "0.500"), (Estimate(0.5, 0.4, 0.61), "0.500 [0.400, 0.610]")],
)
def test_an_estimate_reads_as_figure_and_interval(estimate, text):
    assert str(estimate) == text


def test_no_passages_are_refused():
    with pytest.raises(ValueError, match="Got no passages"):
        evaluate([], np.zeros((0, 4)), np.zeros((0, 4)), CODEBOOK)


def test_arrays_of_another_number_of_topics_are_refused():
    gold = make_gold(2)
    with pytest.raises(ValueError, match=r"shapes \(6, 4\), \(6, 3\)"):
        evaluate(gold, np.zeros((6, 3)), np.zeros((6, 3)), CODEBOOK)


def test_a_gold_topic_outside_the_codebook_is_refused():
    gold = [replace(p, topics=("secuirty",)) for p in make_gold(2)]
    with pytest.raises(DataError, match=r"'secuirty' is not in the codebook.*'security'"):
        evaluate(gold, np.zeros((6, 4)), np.zeros((6, 4)), CODEBOOK)


@pytest.mark.parametrize(("n_resamples", "confidence"), [(-1, 0.95), (10, 1.0), (10, 0.0)])
def test_impossible_bootstrap_settings_are_refused(n_resamples, confidence):
    with pytest.raises(ValueError, match="expected 0 or more resamples"):
        Bootstrap(n_resamples=n_resamples, confidence=confidence)


def test_a_file_that_is_no_evaluation_is_refused(tmp_path):
    path = tmp_path / "e.json"
    path.write_text('{"model": "x"}')
    with pytest.raises(DataError, match=r"e\.json: not an evaluation"):
        read_evaluation(path)
    with pytest.raises(DataError, match="cannot read the evaluation"):
        read_evaluation(tmp_path / "none.json")


def test_an_evaluation_of_a_newer_format_is_refused(evaluation):
    newer = replace(evaluation, format_version=99)
    with pytest.raises(DataError, match="format version 99 is newer"):
        Evaluation.from_json(newer.to_json())
    content = json.loads(newer.to_json())
    del content["curves"]  # as a newer format may
    with pytest.raises(DataError, match=r"e\.json: format version 99 is newer.*update relclass"):
        Evaluation.from_json(json.dumps(content), where="e.json")


@pytest.mark.parametrize("text", ["[]", "3", "{", '{"format_version": "x"}'])
def test_what_is_no_evaluation_is_refused_whatever_it_is(text):
    with pytest.raises(DataError, match="not an evaluation"):
        Evaluation.from_json(text)


def test_topics_stand_in_codebook_order(evaluation):
    assert evaluation.topics == TOPICS
    assert list(evaluation.overall.by_topic) == list(TOPICS)
