import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import CODEBOOK, make_classifier, make_gold

from relclass.config import BaselineSettings, TrainConfig
from relclass.cross_validation import cross_validate, make_fit
from relclass.errors import DataError

GOLD = [replace(p, text=f"{p.text} {p.passage_id} {hash_}") for hash_, p in enumerate(make_gold())]


class Recorder:
    """A fit that keeps what it was given and returns a classifier that knows the words."""

    def __init__(self):
        self.calls = []

    def __call__(self, fitted, tuned, seed):
        self.calls.append((list(fitted), list(tuned), seed))
        return make_classifier()


@pytest.fixture(autouse=True)
def no_near_duplicates(monkeypatch):
    """The invented passages follow three patterns, so all are near-duplicates of each other."""
    monkeypatch.setattr("relclass.cross_validation.find_near_duplicates", lambda texts: [])


def test_every_passage_is_scored_once_and_never_seen_before():
    fit = Recorder()
    result = cross_validate(GOLD, CODEBOOK, fit, n_folds=3)
    assert sum(fold.n_test_passages for fold in result.folds) == len(GOLD)
    for (fitted, tuned, _), fold in zip(fit.calls, result.folds, strict=True):
        seen = {p.article_id for p in (*fitted, *tuned)}
        assert len(fitted) + len(tuned) + fold.n_test_passages == len(GOLD)
        assert len(seen) == fold.n_train_articles
        unseen = {p.article_id for p in GOLD} - seen
        assert len(unseen) * 3 == fold.n_test_passages


def test_thresholds_are_tuned_on_articles_that_were_not_fitted():
    fit = Recorder()
    cross_validate(GOLD, CODEBOOK, fit, n_folds=3)
    for fitted, tuned, _ in fit.calls:
        assert tuned
        assert not {p.article_id for p in fitted} & {p.article_id for p in tuned}
        assert 0.05 < len(tuned) / (len(fitted) + len(tuned)) < 0.3


def test_near_duplicates_are_never_on_both_sides(monkeypatch):
    pairs = [(0, 3 * k) for k in range(1, 10)]
    monkeypatch.setattr("relclass.cross_validation.find_near_duplicates", lambda texts: pairs)
    fit = Recorder()
    cross_validate(GOLD, CODEBOOK, fit, n_folds=3)
    together = {f"a{k}" for k in range(10)}
    for fitted, tuned, _ in fit.calls:
        learned = {p.article_id for p in (*fitted, *tuned)}
        assert together <= learned or not together & learned


def test_each_seed_deals_other_folds_and_is_handed_on():
    fit = Recorder()
    result = cross_validate(GOLD, CODEBOOK, fit, n_folds=3, seeds=(0, 1))
    assert [seed for *_, seed in fit.calls] == [0, 0, 0, 1, 1, 1]
    assert {p.article_id for p in fit.calls[0][0]} != {p.article_id for p in fit.calls[3][0]}
    assert result.spread("macro_f1").n == 6


def test_equal_seeds_give_equal_folds():
    first, second = Recorder(), Recorder()
    cross_validate(GOLD, CODEBOOK, first, n_folds=3, seeds=(5,))
    cross_validate(GOLD, CODEBOOK, second, n_folds=3, seeds=(5,))
    assert first.calls == second.calls


def test_the_spread_is_that_of_numpy():
    result = cross_validate(GOLD, CODEBOOK, Recorder(), n_folds=3)
    values = [fold.figures["all"]["subset_accuracy"] for fold in result.folds]
    spread = result.spread("subset_accuracy")
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.standard_deviation == pytest.approx(np.std(values, ddof=1))
    assert (spread.lowest, spread.highest) == (min(values), max(values))


def test_origins_are_scored_apart_where_there_are_two():
    result = cross_validate(GOLD, CODEBOOK, Recorder(), n_folds=3)
    assert set(result.folds[0].figures) == {"all", "real", "authored"}
    one = [replace(p, origin="real") for p in GOLD]
    assert set(cross_validate(one, CODEBOOK, Recorder(), n_folds=3).folds[0].figures) == {"all"}


def test_the_learning_curve_grows_with_nested_articles():
    fit = Recorder()
    result = cross_validate(GOLD, CODEBOOK, fit, n_folds=3, seeds=(0, 1), shares=(0.3, 0.6))
    assert len(result.curve) == 6 and len(result.folds) == 6
    articles = [{p.article_id for p in (*fitted, *tuned)} for fitted, tuned, _ in fit.calls[:3]]
    assert articles[0] < articles[1] < articles[2]
    numbers = [n for n, _ in result.learning_curve()]
    assert numbers == sorted(numbers) and len(numbers) == 3


def test_a_learning_curve_may_name_its_end():
    fit = Recorder()
    result = cross_validate(GOLD, CODEBOOK, fit, n_folds=3, shares=(0.5, 1.0))
    assert len(result.curve) == 3 and len(result.folds) == 3 and len(fit.calls) == 6
    assert len(result.learning_curve()) == 2


def test_a_topic_that_no_fold_has_is_undefined():
    gold = [replace(p, topics=tuple(t for t in p.topics if t != "karabakh")) for p in GOLD]
    result = cross_validate(gold, CODEBOOK, Recorder(), n_folds=3)
    assert result.topic_spread("karabakh") is None
    assert result.topic_spread("energy") is not None
    written = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(written)["f1_by_topic"]["karabakh"] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_folds": 1}, "n_folds=1"),
        ({"seeds": ()}, "expected 2 folds, 1 seed"),
        ({"shares": (0.0,)}, r"shares=\(0.0,\) but expected shares in \(0, 1\]"),
        ({"shares": (1.5,)}, r"shares=\(1.5,\) but expected shares in \(0, 1\]"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        cross_validate(GOLD, CODEBOOK, Recorder(), **settings)


def test_fewer_articles_than_folds_are_refused():
    with pytest.raises(DataError, match="2 articles cannot be dealt to 5 folds"):
        cross_validate(make_gold(2), CODEBOOK, Recorder())


def test_a_baseline_is_fitted_as_the_config_says():
    config = TrainConfig(
        name="tiny",
        model=BaselineSettings(min_df=1, max_word_features=500, max_char_features=500),
    )
    result = cross_validate(GOLD, CODEBOOK, make_fit(config, CODEBOOK), n_folds=2)
    assert result.spread("macro_f1").mean > 0.5
