import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from test_models_ensemble import CODEBOOK, TEXTS, classifier

from relclass.errors import ModelError
from relclass.models import store
from relclass.models.base import Classifier
from relclass.models.cascade import CASCADE_FILE, CascadeScorer, StudentStage, is_settled
from relclass.models.ensemble import EnsembleScorer
from relclass.models.store import load_model, manifest_sha256, save_model
from relclass.thresholds import Calibration

LANGUAGES = ["fa"] * len(TEXTS)


@dataclass
class Counted:
    """Scores as another scorer does, and keeps what it was asked."""

    scorer: object
    asked: list[str]
    kind: str = "counted"

    def score(self, texts):
        self.asked.extend(texts)
        return self.scorer.score(texts)


@pytest.fixture
def members() -> tuple[Classifier, ...]:
    return classifier("quick", "گاز", "قطار"), classifier("slow", "نفت", "کشتی")


@pytest.fixture
def base(members) -> Classifier:
    scorer = EnsembleScorer(members, np.array([[2.0, 0.5], [-1.0, 3.0]]), np.array([0.25, -1.0]))
    return replace(members[0], name="both", scorer=scorer, calibration=Calibration("none"))


def cascade(base: Classifier, **changes) -> Classifier:
    scorer = CascadeScorer(base, **{"first": "quick", "low": 0.1, "high": 0.9, **changes})
    return replace(base, name="cascade", scorer=scorer, calibration=Calibration("none"))


def test_settled_is_a_passage_sure_of_every_topic() -> None:
    y_prob = np.array([[0.05, 0.95], [0.05, 0.5], [0.1, 0.9], [0.0, 1.0]])
    assert is_settled(y_prob, low=0.1, high=0.9).tolist() == [True, False, False, True]


def test_what_is_not_settled_gets_the_ensembles_probabilities(base) -> None:
    doubtful = cascade(base, low=0.0, high=1.0)
    expected = base.predict_proba(TEXTS, LANGUAGES)
    np.testing.assert_allclose(doubtful.predict_proba(TEXTS, LANGUAGES), expected, atol=1e-6)


def test_what_is_settled_gets_the_first_members_probabilities(base, members) -> None:
    sure = cascade(base, low=0.5, high=0.5 + 1e-9)
    expected = members[0].predict_proba(TEXTS, LANGUAGES)
    np.testing.assert_allclose(sure.predict_proba(TEXTS, LANGUAGES), expected, atol=1e-6)


def test_the_slow_member_reads_only_what_is_not_settled(base, members) -> None:
    y_prob = members[0].predict_proba(TEXTS, LANGUAGES)
    low, high = np.quantile(y_prob, 0.4), np.quantile(y_prob, 0.6) + 1e-6
    rest = [t for t, s in zip(TEXTS, is_settled(y_prob, low=low, high=high), strict=True) if not s]
    asked: list[str] = []
    slow = replace(members[1], scorer=Counted(members[1].scorer, asked))
    ensemble = replace(base, scorer=replace(base.scorer, members=(members[0], slow)))
    cascade(ensemble, low=low, high=high).predict_proba(TEXTS, LANGUAGES)
    assert 0 < len(rest) < len(TEXTS)
    assert len(asked) == len(rest)


def test_a_passage_gets_the_same_in_any_company(base) -> None:
    classifier = cascade(base)
    alone = np.concatenate([classifier.predict_proba([text], ["fa"]) for text in TEXTS])
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS, LANGUAGES), alone)


def test_a_saved_cascade_labels_as_before(base, tmp_path) -> None:
    before = cascade(base)
    save_model(before, tmp_path / "model")
    after = load_model(tmp_path / "model")
    np.testing.assert_array_equal(
        after.predict_proba(TEXTS, LANGUAGES), before.predict_proba(TEXTS, LANGUAGES)
    )
    assert (after.scorer.first, after.scorer.low, after.scorer.high) == ("quick", 0.1, 0.9)


@pytest.fixture
def shipped(base, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHIPPED_DIR", tmp_path / "shipped")
    save_model(base, tmp_path / "shipped" / "both")
    return tmp_path / "shipped"


def test_a_cascade_over_a_shipped_model_does_not_hold_it_again(base, shipped) -> None:
    before = cascade(base, by_name=True)
    save_model(before, shipped / "cascade")
    assert not (shipped / "cascade" / "both").exists()
    after = load_model("cascade")
    np.testing.assert_array_equal(after.predict_proba(TEXTS), before.predict_proba(TEXTS))


def test_a_cascade_over_another_version_of_the_shipped_model_says_so(base, shipped) -> None:
    save_model(cascade(base, by_name=True), shipped / "cascade")
    before = manifest_sha256("both")
    save_model(replace(base, thresholds=np.array([0.4, 0.4])), shipped / "both")
    assert manifest_sha256("both") != before
    with pytest.raises(ModelError, match="another version of the shipped model 'both'"):
        load_model("cascade")


def test_a_base_of_a_shipped_models_name_is_not_kept_by_name(base, shipped, tmp_path) -> None:
    for mine in (replace(base, thresholds=np.array([0.4, 0.4])), replace(base, name="mine")):
        with pytest.raises(ModelError, match="is not the shipped model of that name"):
            save_model(cascade(mine, by_name=True), tmp_path / "model")
    assert not (tmp_path / "model").exists()
    save_model(cascade(load_model("both"), by_name=True), tmp_path / "model")


@pytest.mark.parametrize("name", ["team/both", "..", ""])
def test_a_base_whose_name_is_no_folders_is_not_saved(base, tmp_path, name) -> None:
    with pytest.raises(ModelError, match="expected a name without slashes"):
        save_model(cascade(replace(base, name=name)), tmp_path / "model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": "quik"}, "no member 'quik'"),
        ({"low": 0.9, "high": 0.1}, "0 <= low < high <= 1"),
        ({"high": 1.5}, "0 <= low < high <= 1"),
    ],
)
def test_wrong_bounds_and_members_are_named(base, changes, message) -> None:
    with pytest.raises(ModelError, match=message):
        cascade(base, **changes)


def test_only_an_ensemble_makes_a_cascade(members) -> None:
    with pytest.raises(ModelError, match="of kind 'lexicon': a cascade needs an ensemble"):
        CascadeScorer(members[0], "quick", low=0.1, high=0.9)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"base": "both", "first": "quick", "low": 0.1}',
        '{"base": "both", "first": "quick", "low": 0.1, "high": 0.9, "x": 1}',
    ],
)
def test_damaged_bounds_are_named_with_their_file(base, tmp_path, content) -> None:
    save_model(cascade(base), tmp_path / "model")
    (tmp_path / "model" / CASCADE_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=CASCADE_FILE):
        CascadeScorer.load(tmp_path / "model", CODEBOOK)


def test_a_cascade_without_its_bounds_is_incomplete(base, tmp_path) -> None:
    save_model(cascade(base), tmp_path / "model")
    assert json.loads((tmp_path / "model" / CASCADE_FILE).read_text(encoding="utf-8"))
    (tmp_path / "model" / CASCADE_FILE).unlink()
    with pytest.raises(ModelError, match="incomplete"):
        CascadeScorer.load(tmp_path / "model", CODEBOOK)


@dataclass
class Staged:
    """A network with a student; keeps which passages the network itself had to read."""

    student: object
    last: object
    went_on: list[str]
    student_share: float = 0.5
    kind: str = "staged"

    def score(self, texts):
        return self.last.score(texts)

    def score_cascaded(self, texts, settles):
        logits = self.student.score(texts)
        goes_on = ~settles(logits)
        rest = [texts[row] for row in np.flatnonzero(goes_on)]
        self.went_on.extend(rest)
        logits[goes_on] = self.last.score(rest)
        return logits


STAGE = StudentStage(
    member="slow",
    weights=np.array([[1.0, 0.0], [0.5, 2.0]]),
    intercepts=np.array([0.5, -0.5]),
    calibration=Calibration("none"),
    low=0.3,
    high=0.7,
)


@pytest.fixture
def staged(base, members):
    """Give an ensemble whose slow member has a student, and that member's scorer."""
    scorer = Staged(classifier("x", "گاز", "مرز").scorer, members[1].scorer, [])
    slow = replace(members[1], scorer=scorer)
    return replace(base, scorer=replace(base.scorer, members=(members[0], slow))), scorer


def test_a_student_settles_what_the_first_member_did_not(staged, members) -> None:
    base, scorer = staged
    expected = base.predict_proba(TEXTS, LANGUAGES)
    of_first = members[0].predict_logits(TEXTS, LANGUAGES)
    by_student = STAGE.predict_proba(of_first, scorer.student.score(TEXTS))
    stops = is_settled(by_student, low=0.3, high=0.7)
    assert 0 < stops.sum() < len(TEXTS)
    given = cascade(base, low=0.0, high=1.0, student=STAGE).predict_proba(TEXTS, LANGUAGES)
    expected[stops] = by_student[stops]
    np.testing.assert_allclose(given, expected, atol=1e-6)
    assert len(scorer.went_on) == len(TEXTS) - stops.sum()


def test_what_the_first_member_settles_never_gets_to_the_student(staged, members) -> None:
    base, _ = staged
    sure = cascade(base, low=0.5, high=0.5 + 1e-9, student=STAGE)
    expected = members[0].predict_proba(TEXTS, LANGUAGES)
    np.testing.assert_allclose(sure.predict_proba(TEXTS, LANGUAGES), expected, atol=1e-6)


def test_a_saved_student_stage_is_read_again_with_every_digit(base, tmp_path) -> None:
    content = json.loads(json.dumps(STAGE.to_dict()))
    after = StudentStage.from_dict(content, n_topics=2)
    logits = np.array([[0.3, -2.0], [1.0, 0.1]])
    np.testing.assert_array_equal(
        after.predict_proba(logits, -logits), STAGE.predict_proba(logits, -logits)
    )
    assert (after.member, after.low, after.high) == ("slow", 0.3, 0.7)


@pytest.mark.parametrize(
    "change", [{"weights": [[1.0, 2.0]]}, {"x": 1}, {"calibration": {}}, {"low": None}]
)
def test_a_damaged_student_stage_is_named_with_its_file(base, tmp_path, change) -> None:
    save_model(cascade(base), tmp_path / "model")
    path = tmp_path / "model" / CASCADE_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    content["student"] = STAGE.to_dict() | change
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match=CASCADE_FILE):
        CascadeScorer.load(tmp_path / "model", CODEBOOK)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"member": "fast"}, "no member 'fast'"),
        ({"member": "quick"}, "'quick' has no student"),
        ({"low": 0.9}, "0 <= low < high <= 1"),
    ],
)
def test_a_student_that_does_not_fit_the_ensemble_is_refused(staged, changes, message) -> None:
    with pytest.raises(ModelError, match=message):
        cascade(staged[0], student=replace(STAGE, **changes))
