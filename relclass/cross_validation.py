"""Labelled passages + a way to fit -> how figures vary from fold to fold, and with more data."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relclass.codebook import Codebook
from relclass.config import TrainConfig, TransformerSettings
from relclass.errors import DataError
from relclass.metrics import summarise
from relclass.models.base import Classifier, Scorer
from relclass.records import LabelledPassage
from relclass.resampling import number
from relclass.splits import find_near_duplicates, group_passages, split_groups

if TYPE_CHECKING:
    from relclass.run_folder import RunOptions

logger = logging.getLogger(__name__)

Fit = Callable[[Sequence[LabelledPassage], Sequence[LabelledPassage], int], Classifier]
"""Fits a model on the first passages, tunes calibration and thresholds on the second; the third
is the seed."""

TUNING_PARTS = 7
"""One part in so many of a fold's training passages is set aside to tune on, as much as validation
has. Parts of equal size share rare topics more evenly than one small and one large."""


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What a model scored on one fold that it did not see.

    Parameters
    ----------
    share : of the training articles that were used, in (0, 1].
    n_train_articles, n_train_passages : of what was fitted and tuned on.
    figures : "all", and each origin where there are two, to overall metrics; None where the
        fold does not define one.
    by_topic : topic to F1, over all origins.
    """

    seed: int
    fold: int
    share: float
    n_train_articles: int
    n_train_passages: int
    n_test_passages: int
    figures: Mapping[str, Mapping[str, float | None]]
    by_topic: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and spread of one figure over folds and seeds.

    Parameters
    ----------
    standard_deviation : with n - 1 in the denominator; 0 for a single value. Folds share
        training passages, so it is no standard error (Bengio and Grandvalet 2004,
        https://www.jmlr.org/papers/v5/grandvalet04a.html).
    """

    mean: float
    standard_deviation: float
    lowest: float
    highest: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.standard_deviation:.3f}"


@dataclass(frozen=True)
class CrossValidation:
    """Every fold of every seed.

    Parameters
    ----------
    folds : those that used all of their training articles.
    curve : those of the learning curve that used fewer.
    """

    name: str
    n_folds: int
    seeds: tuple[int, ...]
    folds: tuple[FoldResult, ...]
    curve: tuple[FoldResult, ...] = ()

    def spread(self, metric: str, *, origin: str = "all") -> Spread | None:
        """Sum up one overall metric; None if no fold defines it."""
        return _spread([fold.figures.get(origin, {}).get(metric) for fold in self.folds])

    def topic_spread(self, topic: str) -> Spread | None:
        """Sum up one topic's F1; None if no fold has a positive passage."""
        return _spread([fold.by_topic[topic] for fold in self.folds])

    def learning_curve(
        self, metric: str = "macro_f1", *, origin: str = "all"
    ) -> list[tuple[float, Spread]]:
        """Give the metric for each mean number of training articles, ascending."""
        points = []
        results = (*self.curve, *(f for f in self.folds if f.seed == self.seeds[0]))
        for share in sorted({result.share for result in results}):
            chosen = [result for result in results if result.share == share]
            found = _spread([result.figures.get(origin, {}).get(metric) for result in chosen])
            if found is not None:
                points.append((float(np.mean([r.n_train_articles for r in chosen])), found))
        return points

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, with the spread of macro-F1 and of each topic's F1."""
        topics = self.folds[0].by_topic if self.folds else {}
        macro, by_topic = self.spread("macro_f1"), {t: self.topic_spread(t) for t in topics}
        return {
            "name": self.name,
            "n_folds": self.n_folds,
            "seeds": list(self.seeds),
            "macro_f1": asdict(macro) if macro else None,
            "f1_by_topic": {t: asdict(s) if s else None for t, s in by_topic.items()},
            "learning_curve": [
                {"n_articles": n, **asdict(spread)} for n, spread in self.learning_curve()
            ],
            "folds": [asdict(fold) for fold in (*self.folds, *self.curve)],
        }


def cross_validate(
    passages: Sequence[LabelledPassage],
    codebook: Codebook,
    fit: Fit,
    *,
    n_folds: int = 5,
    seeds: Sequence[int] = (0,),
    shares: Sequence[float] = (),
) -> CrossValidation:
    """Fit on all folds but one and score that one, in turn and for each seed.

    Folds keep articles and near-duplicates together and have their share of each language,
    origin and topic. Thresholds are tuned on a part of the fitting passages, never on the fold
    that is scored.

    Parameters
    ----------
    fit : see `Fit`; `make_fit` makes one from a config.
    seeds : each deals the folds anew and seeds the model.
    shares : of the training articles, in (0, 1], for the learning curve; the first seed only. The
        curve ends in 1 whether it is named or not.

    Raises
    ------
    ValueError
        If there is no seed, fewer than two folds, or a share is not in (0, 1].
    DataError
        If there are fewer articles than folds.
    """
    if n_folds < 2 or not seeds:
        raise ValueError(f"Got n_folds={n_folds}, seeds={tuple(seeds)}: expected 2 folds, 1 seed.")
    if not all(0 < share <= 1 for share in shares):
        raise ValueError(f"Got shares={tuple(shares)} but expected shares in (0, 1].")
    fewer = tuple(share for share in shares if share < 1)
    groups = _group(passages)
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    if n_groups < n_folds:
        raise DataError(f"{n_groups} articles cannot be dealt to {n_folds} folds; label more")
    results: dict[bool, list[FoldResult]] = {True: [], False: []}
    for seed in seeds:
        for task in _tasks(passages, groups, n_folds=n_folds, seed=seed):
            for share in (*(fewer if seed == seeds[0] else ()), 1.0):
                result = _run(task, codebook, fit, share=share)
                logger.info("seed %d fold %d share %.2f: %s", seed, task.fold, share, result)
                results[share == 1].append(result)
    return CrossValidation(
        name="unnamed",
        n_folds=n_folds,
        seeds=tuple(seeds),
        folds=tuple(results[True]),
        curve=tuple(results[False]),
    )


@dataclass(frozen=True)
class _Task:
    """One fold: what may be learned from, in groups, and what is scored."""

    seed: int
    fold: int
    learned: list[LabelledPassage]
    groups: np.ndarray
    scored: list[LabelledPassage]


def _tasks(
    passages: Sequence[LabelledPassage], groups: np.ndarray, *, n_folds: int, seed: int
) -> Iterator[_Task]:
    strata = [_strata(passage) for passage in passages]
    folds = split_groups(groups, strata, shares=[1 / n_folds] * n_folds, seed=seed)
    for fold in range(n_folds):
        learned = np.flatnonzero(folds != fold)
        yield _Task(
            seed=seed,
            fold=fold,
            learned=[passages[k] for k in learned],
            groups=number(groups[learned]),
            scored=[passages[k] for k in np.flatnonzero(folds == fold)],
        )


def _run(task: _Task, codebook: Codebook, fit: Fit, *, share: float) -> FoldResult:
    n_groups = int(task.groups.max()) + 1
    order = np.random.default_rng([task.seed, task.fold]).permutation(n_groups)
    kept = np.isin(task.groups, order[: max(2, round(share * n_groups))])
    learned = [p for p, keep in zip(task.learned, kept, strict=True) if keep]
    part = split_groups(
        number(task.groups[kept]),
        [_strata(passage) for passage in learned],
        shares=[1 / TUNING_PARTS] * TUNING_PARTS,
        seed=task.seed,
    )
    fitted = [p for p, tunes in zip(learned, part == 0, strict=True) if not tunes]
    tuned = [p for p, tunes in zip(learned, part == 0, strict=True) if tunes]
    figures, by_topic = _measure(fit(fitted, tuned, task.seed), task.scored, codebook)
    return FoldResult(
        seed=task.seed,
        fold=task.fold,
        share=share,
        n_train_articles=len({p.article_id for p in learned}),
        n_train_passages=len(learned),
        n_test_passages=len(task.scored),
        figures=figures,
        by_topic=by_topic,
    )


def _measure(
    classifier: Classifier, passages: Sequence[LabelledPassage], codebook: Codebook
) -> tuple[dict[str, dict[str, float | None]], dict[str, float | None]]:
    from relclass.thresholds import apply_thresholds

    y_prob = classifier.predict_proba(
        [passage.text for passage in passages], [passage.language for passage in passages]
    )
    y_pred = apply_thresholds(y_prob, classifier.thresholds)
    y_true = np.array([[name in p.topics for name in codebook.names] for p in passages])
    origins = np.array([passage.origin for passage in passages])
    masks = {"all": np.ones(len(passages), dtype=bool)}
    if len(set(origins.tolist())) > 1:
        masks |= {str(origin): origins == origin for origin in np.unique(origins)}
    figures = {}
    for name, mask in masks.items():
        summary = summarise(y_true[mask], y_pred[mask], y_prob[mask])
        figures[name] = {key: _or_none(value) for key, value in summary.overall.items()}
        if name == "all":
            f1 = [_or_none(float(value)) for value in summary.by_topic["f1"]]
    return figures, dict(zip(codebook.names, f1, strict=True))


def make_fit(config: TrainConfig, codebook: Codebook, *, options: RunOptions | None = None) -> Fit:
    """Make a `Fit` that does what `relclass train` does with the config, run folder apart.

    Parameters
    ----------
    options : device and smoke-run settings of a transformer.
    """

    def fit(
        fitted: Sequence[LabelledPassage], tuned: Sequence[LabelledPassage], seed: int
    ) -> Classifier:
        from relclass.examples import make_examples
        from relclass.training import calibrate, fit_small

        train = make_examples(fitted, codebook, config)
        tuning = make_examples(tuned, codebook, config)
        if not isinstance(config.model, TransformerSettings):
            scorer: Scorer = fit_small(config.model, train, codebook.names)
        else:
            from relclass.models.finetuning import FineTuning, finetune
            from relclass.run_folder import DEFAULT_OPTIONS

            with tempfile.TemporaryDirectory(prefix="relclass-fold-") as work_dir:
                task = FineTuning(train, tuning, codebook.names, Path(work_dir), seed)
                scorer = finetune(task, config.model, options=options or DEFAULT_OPTIONS)
        calibration, thresholds = calibrate(tuning, scorer.score(tuning.texts), config.thresholds)
        return Classifier(config.name, codebook, scorer, config.normalize, calibration, thresholds)

    return fit


def _group(passages: Sequence[LabelledPassage]) -> np.ndarray:
    near_duplicates = find_near_duplicates([passage.text for passage in passages])
    return group_passages([(p.origin, p.article_id) for p in passages], near_duplicates)


def _strata(passage: LabelledPassage) -> list[str]:
    place = f"{passage.origin}/{passage.language}"
    return [place, *(f"{place}/{t}" for t in passage.topics), *passage.topics]


def _spread(values: Sequence[float | None]) -> Spread | None:
    defined = np.array([value for value in values if value is not None])
    if not defined.size:
        return None
    return Spread(
        mean=float(defined.mean()),
        standard_deviation=float(defined.std(ddof=1)) if defined.size > 1 else 0.0,
        lowest=float(defined.min()),
        highest=float(defined.max()),
        n=int(defined.size),
    )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
