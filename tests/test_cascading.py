from dataclasses import replace

import numpy as np
import pytest
from test_cascade import STAGE, Staged
from test_models_ensemble import TEXTS
from test_stacking import dataset, members  # noqa: F401 fixtures

from relclass.cascading import WIDTHS, _Part, _safe_widths, build_cascade
from relclass.codebook import Codebook
from relclass.errors import DataError, ModelError
from relclass.stacking import build_ensemble


@pytest.fixture
def base(dataset, members):  # noqa: F811
    return build_ensemble(members, dataset, name="both")


def test_bounds_are_the_widest_within_the_loss_allowed(dataset, base) -> None:  # noqa: F811
    lax = build_cascade(base, "gas", dataset, name="quick", max_loss=1.0)
    assert lax.scorer.low == WIDTHS[0]
    strict = build_cascade(base, "gas", dataset, name="quick", max_loss=0.0)
    figures = strict.card["validation"]["real"]
    assert figures["macro_f1"] >= figures["macro_f1_of_base"]
    assert 0 <= figures["share_settled"] <= 1


def test_a_cascade_keeps_the_bases_thresholds_and_labels(dataset, base) -> None:  # noqa: F811
    strict = build_cascade(base, "gas", dataset, name="quick", max_loss=0.0)
    np.testing.assert_array_equal(strict.thresholds, base.thresholds)
    np.testing.assert_array_equal(strict.predict(TEXTS), base.predict(TEXTS))
    assert strict.card["metrics"]["test"]["real"]["overall"]["macro_f1"] == 1.0


def test_a_base_of_other_topics_than_the_data_is_refused(dataset, base) -> None:  # noqa: F811
    turned = Codebook(version="1", topics=dataset.codebook.topics[::-1])
    other = replace(dataset, codebook=turned)
    with pytest.raises(ModelError, match="both: the model has the topics energy, transit, the"):
        build_cascade(base, "gas", other, name="quick", max_loss=0.0)


def test_a_member_that_errs_where_it_is_sure_makes_no_cascade(dataset, base) -> None:  # noqa: F811
    gas, oil = base.scorer.members

    class Contrary:
        kind = "contrary"

        def score(self, texts):
            return -100.0 * np.sign(base.predict_logits(texts)).astype(np.float32)

    wrong = replace(base.scorer, members=(replace(gas, scorer=Contrary()), oil))
    right_despite = replace(base, scorer=wrong)
    right_despite = replace(
        right_despite, scorer=replace(wrong, weights=wrong.weights * np.array([[0.0], [1.0]]))
    )
    with pytest.raises(ModelError, match="too weak"):
        build_cascade(right_despite, "gas", dataset, name="quick", max_loss=0.0)


def test_without_real_validation_passages_no_bounds_are_chosen(dataset, base) -> None:  # noqa: F811
    empty = replace(dataset, splits=np.array(["train"] * len(dataset.passages)))
    with pytest.raises(DataError, match="no real validation passages"):
        build_cascade(base, "gas", empty, name="quick")


@pytest.fixture
def staged(dataset, members):  # noqa: F811
    """Give an ensemble whose second member has a student as good as itself."""
    gas, oil = members
    network = Staged(oil.scorer, oil.scorer, [], student_share=0.25)
    return build_ensemble((gas, replace(oil, scorer=network)), dataset, name="both")


def test_a_student_is_used_where_a_member_has_one(dataset, staged) -> None:  # noqa: F811
    lax = build_cascade(staged, "gas", dataset, name="quick", max_loss=1.0)
    assert lax.scorer.student.member == "oil"
    strict = build_cascade(staged, "gas", dataset, name="quick", max_loss=0.0)
    figures = strict.card["validation"]["real"]
    assert figures["macro_f1"] >= figures["macro_f1_of_base"]
    assert figures["share_settled_by_student"] > 0
    np.testing.assert_array_equal(strict.predict(TEXTS), staged.predict(TEXTS))


def make_part(y_true, cheap, taught, whole, groups=None):
    groups = np.arange(len(y_true)) if groups is None else groups
    return _Part("real", groups, y_true, cheap, taught, whole, np.array([0.5]))


def test_the_bounds_leave_the_least_to_be_read() -> None:
    y_prob = np.array([[0.01], [0.99], [0.2], [0.6]])
    taught = np.array([[0.5], [0.5], [0.04], [0.5]])
    part = make_part(np.array([[0], [1], [0], [1]]), y_prob, taught, y_prob)
    # half are settled by words, half go to the student, half of these on from there
    assert part.work(0.05, 0.05, share=0.25) == pytest.approx(0.25 * 0.5 + 0.25)
    assert part.work(0.05, 0.0, share=0.25) == pytest.approx(0.25 * 0.5 + 0.5)


def test_many_changes_are_a_risk_even_where_nothing_is_lost() -> None:
    rng = np.random.default_rng(0)
    y_true = (rng.random((400, 1)) < 0.4).astype(int)

    def risk(n_changed):
        whole, cheap = np.where(y_true, 0.9, 0.1), np.where(y_true, 0.99, 0.01)
        ones = np.flatnonzero(y_true)[: 2 * n_changed]
        whole[ones[:n_changed]] = 0.1  # the base misses some, the cascade as many others
        cheap[ones[n_changed:]] = 0.01
        part = make_part(y_true, cheap, cheap, whole)
        assert part.reached(0.05, 0.0) == pytest.approx(part.best)
        return part.at_risk(0.05, 0.0)

    assert risk(0) == 0
    # two standard errors of a difference of n + n marks of some 160
    assert 0.005 < risk(2) < 0.5 * risk(20) < 0.05


def test_passages_of_one_article_are_no_independent_evidence() -> None:
    y_true = np.ones((100, 1), dtype=int)
    cheap, whole = np.full((100, 1), 0.99), np.full((100, 1), 0.99)
    cheap[:5], whole[5:10] = 0.01, 0.01  # as many better as worse, each of one article
    in_fives = np.repeat(np.arange(20), 5)
    alone = make_part(y_true, cheap, cheap, whole).at_risk(0.05, 0.0)
    together = make_part(y_true, cheap, cheap, whole, in_fives).at_risk(0.05, 0.0)
    assert together == pytest.approx(np.sqrt(5) * alone, rel=0.15)


def test_a_gain_pays_for_nothing_and_a_loss_counts_in_full() -> None:
    y_true = np.ones((100, 1), dtype=int)
    right, wrong = np.full((100, 1), 0.99), np.full((100, 1), 0.01)
    gain = make_part(y_true, right, right, wrong)
    loss = make_part(y_true, wrong, wrong, right)
    assert gain.at_risk(0.05, 0.0) == 0  # each resample gains as much
    assert loss.at_risk(0.05, 0.0) == pytest.approx(1.0)


def test_without_a_student_there_is_none_in_the_cascade(dataset, base) -> None:  # noqa: F811
    plain = build_cascade(base, "gas", dataset, name="quick", max_loss=1.0)
    assert plain.scorer.student is None
    assert plain.card["validation"]["real"]["share_settled_by_student"] == 0


def test_bounds_that_are_right_by_luck_are_not_chosen() -> None:
    class Part:
        def at_risk(self, width, student_width):
            return 0.5 if width == 0.05 else 0.0  # wider and narrower ones lose nothing

    widths = {width for width, _ in _safe_widths([Part()], (0.0,), 0.01)}
    assert widths == {0.01, 0.02, 0.03}


def test_a_student_that_errs_where_it_is_sure_is_not_used(dataset, staged, monkeypatch) -> None:  # noqa: F811
    gas, oil = staged.scorer.members

    class Contrary:
        kind = "contrary"

        def score(self, texts):
            return -100.0 * np.sign(staged.predict_logits(texts)).astype(np.float32)

    alone = replace(STAGE, member="oil", weights=np.array([[0.0] * 2, [1.0] * 2]))
    monkeypatch.setattr("relclass.cascading._fit_stage", lambda *_: alone)
    wrong = replace(oil, scorer=replace(oil.scorer, student=Contrary()))
    base = replace(staged, scorer=replace(staged.scorer, members=(gas, wrong)))
    strict = build_cascade(base, "gas", dataset, name="quick", max_loss=0.0)
    assert strict.scorer.student is None
    assert strict.card["validation"]["real"]["share_settled_by_student"] == 0
    np.testing.assert_array_equal(strict.predict(TEXTS), staged.predict(TEXTS))
