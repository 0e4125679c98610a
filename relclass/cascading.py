"""Build a cascade from an ensemble: how sure its stages must be, chosen on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from relclass.calibration import Calibration, fit_calibration
from relclass.config import AS_READ
from relclass.dataset import Dataset, to_arrays
from relclass.errors import DataError, ModelError
from relclass.metrics import macro_f1
from relclass.models.base import Classifier
from relclass.models.cascade import (
    CascadeScorer,
    StudentStage,
    is_settled,
    predict_student_logits,
    student_share,
)
from relclass.models.ensemble import cross_fit_logits, fit_ensemble
from relclass.records import LabelledPassage
from relclass.run_folder import plain
from relclass.stacking import number_articles
from relclass.thresholds import apply_thresholds
from relclass.training import ORIGINS, measure

WIDTHS = (0.3, 0.25, 0.2, 0.15, 0.1, 0.08, 0.05, 0.03, 0.02, 0.01)
"""How far from 0 or 1 a probability may lie and still settle a topic; the widest first."""


def build_cascade(
    base: Classifier,
    first: str,
    dataset: Dataset,
    *,
    name: str,
    max_loss: float = 0.005,
    by_name: bool = False,
) -> Classifier:
    """Let an ensemble's first member settle what it may without costing much macro-F1.

    Where another member has a student, that settles what it may too: its logits and the first
    member's are weighed, topic by topic, on the validation passages.

    Parameters
    ----------
    base : an ensemble, not trained on the validation passages.
    first : name of its cheap member.
    max_loss : macro-F1 that may be lost on validation, of real and of authored passages alike,
        in [0, 1].
    by_name : see `CascadeScorer`.

    Returns
    -------
    The cascade with the bounds that leave the least to be read, of those that lose no more and
    of which no narrower ones do, so that none is chosen by luck; with the base's thresholds.

    Raises
    ------
    DataError
        If there are no real validation passages.
    ModelError
        If the base is no ensemble with such a member, or even the narrowest bounds lose more.
    """
    validation = {origin: dataset.part("validation", origin=origin) for origin in ORIGINS}
    if not validation["real"]:
        raise DataError("no real validation passages to choose the bounds on")
    scorer = CascadeScorer(base, first, low=0.0, high=1.0, by_name=by_name)
    fitted = _fit_student(scorer, [p for part in validation.values() for p in part], dataset)
    parts = [
        _Part.label(scorer, fitted, part, origin) for origin, part in validation.items() if part
    ]
    student_widths = WIDTHS if fitted is not None else (0.0,)
    choices = _safe_widths(parts, student_widths, max_loss)
    if not choices:
        raise ModelError(
            f"member {first!r} is too weak: even where it is surer than {WIDTHS[-1]} it costs "
            f"more than {max_loss} macro-F1 on validation"
        )
    share = 0.0 if fitted is None else fitted.share
    width, student_width = min(
        reversed(choices),  # the widest of those that leave as much
        key=lambda widths: np.mean([part.work(*widths, share=share) for part in parts]),
    )
    stage = None if fitted is None else fitted.settle_within(student_width)
    classifier = Classifier(
        name=name,
        codebook=base.codebook,
        scorer=replace(scorer, low=width, high=1 - width, student=stage),
        normalize=AS_READ,
        calibration=Calibration("none"),
        thresholds=base.thresholds,
    )
    card = {
        "kind": "cascade",
        "base": base.name,
        "validation": {
            part.origin: {
                "macro_f1": part.reached(width, student_width),
                "macro_f1_of_base": part.best,
                "share_settled": float(part.settled(width).mean()),
                "share_settled_by_student": float(
                    part.settled_by_student(width, student_width).mean()
                ),
            }
            for part in parts
        },
        "data": dict(dataset.checksum),
        "metrics": {"test": measure(classifier, dataset.part("test"))},
    }
    classifier.card.update(plain(card))
    return classifier


def _safe_widths(
    parts: Sequence[_Part], student_widths: Sequence[float], max_loss: float
) -> list[tuple[float, float]]:
    """List pairs of widths that lose no more than allowed, as do all pairs of narrower ones."""
    losses = {
        (width, student_width): max(
            part.best - part.reached(width, student_width) for part in parts
        )
        for width in sorted(WIDTHS)
        for student_width in sorted(student_widths)
    }
    return [
        (width, student_width)
        for width, student_width in losses
        if all(
            loss <= max_loss
            for (other, other_student), loss in losses.items()
            if other <= width and other_student <= student_width
        )
    ]


@dataclass(frozen=True)
class _Student:
    """A student whose bounds are yet to be chosen.

    Parameters
    ----------
    stage : with bounds that settle nothing.
    share : of its teacher's time that it costs.
    """

    stage: StudentStage
    share: float

    def settle_within(self, width: float) -> StudentStage:
        return replace(self.stage, low=width, high=1 - width)


def _fit_student(
    scorer: CascadeScorer, passages: Sequence[LabelledPassage], dataset: Dataset
) -> _Student | None:
    """Weigh the student of the first member that has one; None where none has."""
    first = scorer.member(scorer.first)
    member = next((member for member in scorer.members if student_share(member)), None)
    if member is None:
        return None
    texts, languages, y_true, _ = to_arrays(passages, dataset.codebook)
    of_student = predict_student_logits(member, texts, languages)
    logits = np.stack([first.predict_logits(texts, languages), of_student])
    fitted = fit_ensemble((first, member), logits, y_true)
    crossed = cross_fit_logits((first, member), logits, y_true, number_articles(passages))
    stage = StudentStage(
        member=member.name,
        weights=fitted.weights,
        intercepts=fitted.intercepts,
        calibration=fit_calibration(y_true, crossed, method=scorer.base.calibration.method),
        low=0.0,
        high=1.0,
    )
    return _Student(stage, student_share(member))


@dataclass(frozen=True)
class _Part:
    """Validation passages of one origin and what each stage would give.

    Parameters
    ----------
    y_true, cheap, taught, whole : shape (n_passages, n_topics); `taught`, the student's, is all
        0.5, which settles nothing, where there is none.
    """

    origin: str
    y_true: np.ndarray
    cheap: np.ndarray
    taught: np.ndarray
    whole: np.ndarray
    thresholds: np.ndarray

    @classmethod
    def label(
        cls,
        scorer: CascadeScorer,
        fitted: _Student | None,
        passages: Sequence[LabelledPassage],
        origin: str,
    ) -> _Part:
        texts, languages, y_true, _ = to_arrays(passages, scorer.base.codebook)
        first = scorer.member(scorer.first)
        taught = np.full(y_true.shape, 0.5)
        if fitted is not None:
            of_student = predict_student_logits(
                scorer.member(fitted.stage.member), texts, languages
            )
            of_first = first.predict_logits(texts, languages)
            taught = fitted.stage.predict_proba(of_first, of_student)
        return cls(
            origin=origin,
            y_true=y_true,
            cheap=first.predict_proba(texts, languages),
            taught=taught,
            whole=scorer.base.predict_proba(texts, languages),
            thresholds=scorer.base.thresholds,
        )

    def settled(self, width: float) -> np.ndarray:
        return is_settled(self.cheap, low=width, high=1 - width)

    def settled_by_student(self, width: float, student_width: float) -> np.ndarray:
        settled = is_settled(self.taught, low=student_width, high=1 - student_width)
        return settled & ~self.settled(width)

    def work(self, width: float, student_width: float, *, share: float) -> float:
        """Return the share of the network's time that a passage takes on average."""
        goes_in = 1 - self.settled(width).mean()
        goes_on = goes_in - self.settled_by_student(width, student_width).mean()
        return float(share * goes_in + goes_on)

    @property
    def best(self) -> float:
        return self._macro_f1(self.whole)

    def reached(self, width: float, student_width: float) -> float:
        by_student = self.settled_by_student(width, student_width)[:, None]
        y_prob = np.where(by_student, self.taught, self.whole)
        return self._macro_f1(np.where(self.settled(width)[:, None], self.cheap, y_prob))

    def _macro_f1(self, y_prob: np.ndarray) -> float:
        return macro_f1(self.y_true, apply_thresholds(y_prob, self.thresholds)) or 0.0
