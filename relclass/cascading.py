"""Build a cascade from an ensemble: how sure its stages must be, chosen on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from relclass.calibration import Calibration
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
from relclass.records import LabelledPassage
from relclass.resampling import Labelling, resample
from relclass.run_folder import plain
from relclass.stacking import check_topics, number_articles, weigh_members
from relclass.thresholds import apply_thresholds
from relclass.training import ORIGINS, measure

WIDTHS = (0.3, 0.25, 0.2, 0.15, 0.1, 0.08, 0.05, 0.03, 0.02, 0.01)
"""How far from 0 or 1 a probability may lie and still settle a topic; the widest first."""
_N_RESAMPLES = 400


def build_cascade(
    base: Classifier,
    first: str,
    dataset: Dataset,
    *,
    name: str,
    max_loss: float = 0.01,
    by_name: bool = False,
) -> Classifier:
    """Let an ensemble's first member settle what it may without costing much macro-F1.

    Where another member has a student, that settles what it may too: its logits and the first
    member's are weighed, topic by topic, on the validation passages. A student that errs even
    where it is surest is not used.

    Parameters
    ----------
    base : an ensemble, not trained on the validation passages.
    first : name of its cheap member.
    max_loss : macro-F1 that may be lost, in [0, 1]: what is lost on validation, and two standard
        errors of it, of real and of authored passages alike.
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
        If the base is no ensemble with such a member, has other topics than the data, or even the
        narrowest bounds lose more.
    """
    check_topics(base, dataset)
    validation = {origin: dataset.part("validation", origin=origin) for origin in ORIGINS}
    if not validation["real"]:
        raise DataError("no real validation passages to choose the bounds on")
    scorer = CascadeScorer(base, first, low=0.0, high=1.0, by_name=by_name)
    member = next((member for member in scorer.members if student_share(member)), None)
    read = [
        _Read.through(scorer, member, part, origin) for origin, part in validation.items() if part
    ]
    stage, share = None, 0.0
    if member is not None:
        groups = number_articles([p for part in validation.values() for p in part])
        stage, share = _fit_stage(scorer, member, read, groups), student_share(member)
    parts = [_Part.of(scorer, stage, passages) for passages in read]
    student_widths = (0.0,) if stage is None else (*WIDTHS, 0.0)  # at 0 it settles nothing
    choices = _safe_widths(parts, student_widths, max_loss)
    if not choices:
        raise ModelError(
            f"member {first!r} is too weak: even where it is surer than {WIDTHS[-1]} it costs "
            f"more than {max_loss} macro-F1 on validation"
        )
    width, student_width = min(
        reversed(choices),  # the widest of those that leave as much
        key=lambda widths: np.mean([part.work(*widths, share=share) for part in parts]),
    )
    if stage is not None:
        is_used = student_width > 0
        stage = replace(stage, low=student_width, high=1 - student_width) if is_used else None
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
        (width, student_width): max(part.at_risk(width, student_width) for part in parts)
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
class _Read:
    """Validation passages of one origin, read by every stage.

    Parameters
    ----------
    groups : article of each, shape (n_passages,).
    y_true, whole : shape (n_passages, n_topics), the latter the base's probabilities.
    of_first, of_student : logits, of that shape; the latter all 0 where there is no student.
    """

    origin: str
    groups: np.ndarray
    y_true: np.ndarray
    of_first: np.ndarray
    of_student: np.ndarray
    whole: np.ndarray

    @classmethod
    def through(
        cls,
        scorer: CascadeScorer,
        member: Classifier | None,
        passages: Sequence[LabelledPassage],
        origin: str,
    ) -> _Read:
        texts, languages, y_true, _ = to_arrays(passages, scorer.base.codebook)
        of_first = scorer.member(scorer.first).predict_logits(texts, languages)
        return cls(
            origin=origin,
            groups=number_articles(passages),
            y_true=y_true,
            of_first=of_first,
            of_student=np.zeros_like(of_first)
            if member is None
            else predict_student_logits(member, texts, languages),
            whole=scorer.base.predict_proba(texts, languages),
        )


def _fit_stage(
    scorer: CascadeScorer, member: Classifier, read: Sequence[_Read], groups: np.ndarray
) -> StudentStage:
    """Weigh a member's student with the first member; its bounds are yet to be chosen.

    Parameters
    ----------
    groups : article of each passage, shape (n_passages,).
    """
    first = scorer.member(scorer.first)
    weighed = weigh_members(
        (first, member),
        np.concatenate([np.stack([part.of_first, part.of_student]) for part in read], axis=1),
        np.concatenate([part.y_true for part in read]),
        groups,
        method=scorer.base.calibration.method,
    )
    return StudentStage(
        member=member.name,
        weights=weighed.scorer.weights,
        intercepts=weighed.scorer.intercepts,
        calibration=weighed.calibration,
        low=0.0,
        high=1.0,
    )


@dataclass(frozen=True)
class _Part:
    """Validation passages of one origin and what each stage would give.

    Parameters
    ----------
    groups : article of each, shape (n_passages,).
    y_true, cheap, taught, whole : shape (n_passages, n_topics); `taught`, the student's, is all
        0.5, which settles nothing, where there is none.
    """

    origin: str
    groups: np.ndarray
    y_true: np.ndarray
    cheap: np.ndarray
    taught: np.ndarray
    whole: np.ndarray
    thresholds: np.ndarray

    @classmethod
    def of(cls, scorer: CascadeScorer, stage: StudentStage | None, read: _Read) -> _Part:
        return cls(
            origin=read.origin,
            groups=read.groups,
            y_true=read.y_true,
            cheap=scorer.member(scorer.first).calibration.apply(read.of_first),
            taught=np.full(read.whole.shape, 0.5)
            if stage is None
            else stage.predict_proba(read.of_first, read.of_student),
            whole=read.whole,
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
        return self._macro_f1(self.cascaded(width, student_width))

    def cascaded(self, width: float, student_width: float) -> np.ndarray:
        """Return a cascade's probabilities, shape (n_passages, n_topics)."""
        by_student = self.settled_by_student(width, student_width)[:, None]
        y_prob = np.where(by_student, self.taught, self.whole)
        cascaded: np.ndarray = np.where(self.settled(width)[:, None], self.cheap, y_prob)
        return cascaded

    def at_risk(self, width: float, student_width: float) -> float:
        """Return the macro-F1 that a cascade may cost: what it does here, and two standard errors.

        A gain counts as no loss. Bounds that change many marks for as many better as worse ones
        lose nothing here and more elsewhere: the error tells them from bounds that change few.
        """
        y_prob = self.cascaded(width, student_width)
        loss = self.best - self._macro_f1(y_prob)
        by_resample = self._resampled_best - self._resampled(y_prob)
        defined = by_resample[~np.isnan(by_resample)]
        return max(loss, 0.0) + 2 * float(defined.std() if defined.size else 0.0)

    @cached_property
    def _resampled_best(self) -> np.ndarray:
        return self._resampled(self.whole)

    def _resampled(self, y_prob: np.ndarray) -> np.ndarray:
        """Return the macro-F1 of each resample of the articles, shape (n_resamples,)."""
        y_pred = apply_thresholds(y_prob, self.thresholds)
        labelling = Labelling(self.y_true, y_pred, y_prob, self.groups)
        return resample(labelling, n_resamples=_N_RESAMPLES, ranked=False).overall["macro_f1"]

    def _macro_f1(self, y_prob: np.ndarray) -> float:
        return macro_f1(self.y_true, apply_thresholds(y_prob, self.thresholds)) or 0.0
