from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from relclass.codebook import Codebook, Topic
from relclass.config import NormalizeSettings
from relclass.errors import ModelError
from relclass.models.base import Classifier
from relclass.models.ensemble import (
    WEIGHTS_FILE,
    EnsembleScorer,
    cross_fit_logits,
    fit_ensemble,
    member_logits,
)
from relclass.models.lexicon import Keywords, Lexicon, LexiconScorer
from relclass.models.store import load_model, save_model
from relclass.thresholds import Calibration

TOPICS = ("energy", "transit")
CODEBOOK = Codebook(version="1", topics=tuple(Topic(name=t, definition=t) for t in TOPICS))
TEXTS = ["خط لولهٔ گاز", "قطار باری در مرز", "دیدار دو وزیر", "گاز و قطار", "قطار", "گاز", "نفت"]
Y_TRUE = np.array([[1, 0], [0, 1], [0, 0], [1, 1], [0, 1], [1, 0], [1, 0]], dtype=np.uint8)


def classifier(name: str, energy: str, transit: str) -> Classifier:
    lexicon = Lexicon(
        topics={
            "energy": Keywords(strong={"fa": (energy,)}),
            "transit": Keywords(strong={"fa": (transit,)}),
        }
    )
    return Classifier(
        name=name,
        codebook=CODEBOOK,
        scorer=LexiconScorer(lexicon, TOPICS),
        normalize=NormalizeSettings(),
        calibration=Calibration("none"),
        thresholds=np.array([0.5, 0.5]),
    )


@pytest.fixture
def members() -> tuple[Classifier, ...]:
    return classifier("gas", "گاز", "قطار"), classifier("oil", "نفت", "کشتی")


def ensemble_classifier(members: tuple[Classifier, ...]) -> Classifier:
    logits = member_logits(members, TEXTS, ["fa"] * len(TEXTS))
    scorer = fit_ensemble(members, logits, Y_TRUE)
    return replace(members[0], name="both", scorer=scorer)


def test_logits_are_the_weighed_sum_of_the_members_logits(members) -> None:
    scorer = EnsembleScorer(members, np.array([[2.0, 0.5], [-1.0, 3.0]]), np.array([0.25, -1.0]))
    logits = member_logits(members, TEXTS, ["fa"] * len(TEXTS))
    expected = logits[0] * [2.0, 0.5] + logits[1] * [-1.0, 3.0] + [0.25, -1.0]
    np.testing.assert_allclose(scorer.score(TEXTS), expected, rtol=1e-6)


def test_together_members_find_what_neither_finds_alone(members) -> None:
    both = ensemble_classifier(members)
    assert (both.predict(TEXTS) == Y_TRUE).all()
    assert not (members[0].predict(TEXTS) == Y_TRUE).all()


@dataclass(frozen=True)
class LanguageCounter:
    """Scores a passage by the language it is said to be in."""

    kind: str = "counter"

    def score(self, texts):
        raise AssertionError("the languages are known")

    def score_languages(self, texts, languages):
        return np.array([[1.0 if code == "ar" else -1.0] * 2 for code in languages])

    def save(self, model_dir):
        raise NotImplementedError


def test_a_scorer_that_wants_the_languages_is_given_them(members) -> None:
    counter = replace(members[0], scorer=LanguageCounter())
    logits = counter.predict_logits(["گاز", "گاز"], ["ar", "fa"])
    assert logits.tolist() == [[1.0, 1.0], [-1.0, -1.0]]


def test_saved_and_loaded_it_gives_the_same_probabilities(members, tmp_path: Path) -> None:
    both = ensemble_classifier(members)
    save_model(both, tmp_path / "both")
    loaded = load_model(tmp_path / "both")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), both.predict_proba(TEXTS))
    assert [member.name for member in loaded.scorer.members] == ["gas", "oil"]


def test_an_edited_member_is_refused(members, tmp_path: Path) -> None:
    save_model(ensemble_classifier(members), tmp_path / "both")
    path = tmp_path / "both" / "members" / "oil" / "lexicon.json"
    path.write_text(path.read_text(encoding="utf-8").replace("نفت", "برق"), encoding="utf-8")
    with pytest.raises(ModelError, match="edited or damaged"):
        load_model(tmp_path / "both")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "not the weights of an ensemble"),
        ('{"members": ["gas"], "weights": [[1]], "intercepts": [0, 0]}', "weights of shape"),
    ],
)
def test_weights_that_do_not_fit_are_refused(content, message, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        EnsembleScorer.load(tmp_path, CODEBOOK)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="incomplete"):
        EnsembleScorer.load(tmp_path, CODEBOOK)


def test_a_member_of_other_topics_is_refused(members, tmp_path: Path) -> None:
    ensemble_classifier(members).scorer.save(tmp_path)
    turned = Codebook(version="1", topics=CODEBOOK.topics[::-1])
    with pytest.raises(ModelError, match="but the ensemble has"):
        EnsembleScorer.load(tmp_path, turned)


def test_members_need_different_names(members) -> None:
    logits = np.zeros((2, len(TEXTS), 2))
    with pytest.raises(ValueError, match="expected different names"):
        fit_ensemble((members[0], members[0]), logits, Y_TRUE)


def test_members_need_the_same_topics(members) -> None:
    turned = replace(members[1], codebook=Codebook(version="1", topics=CODEBOOK.topics[::-1]))
    with pytest.raises(ValueError, match="expected those of 'gas'"):
        fit_ensemble((members[0], turned), np.zeros((2, len(TEXTS), 2)), Y_TRUE)


def test_logits_of_another_shape_are_refused(members) -> None:
    with pytest.raises(ValueError, match="logits of shape"):
        fit_ensemble(members, np.zeros((1, len(TEXTS), 2)), Y_TRUE)


def test_a_topic_without_a_positive_is_refused(members) -> None:
    logits = member_logits(members, TEXTS, ["fa"] * len(TEXTS))
    with pytest.raises(ValueError, match="'transit' needs passages with it"):
        fit_ensemble(members, logits, Y_TRUE * [1, 0])


def test_cross_fitted_logits_do_not_see_their_own_article(members) -> None:
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, size=(200, 2))
    logits = rng.normal(size=(2, 200, 2))
    logits[0] = rng.permutation(200)[:, None]  # says nothing, but each value is unique
    crossed = cross_fit_logits(members, logits, y_true, np.arange(200) // 4)
    refitted = fit_ensemble(members, logits, y_true).combine(logits)
    assert not np.allclose(crossed, refitted)
    right = ((crossed > 0) == y_true).mean()
    assert right < 0.58  # chance is 0.5, and nothing here tells the labels
