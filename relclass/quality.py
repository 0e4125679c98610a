"""Labelled passages -> what is likely wrong with them, before a model is trained on them."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from relclass.codebook import Codebook
from relclass.config import BaselineSettings, NormalizeSettings
from relclass.errors import MissingExtraError
from relclass.records import LabelledPassage
from relclass.splits import find_near_duplicates, group_passages, split_groups

KINDS = {
    "article_leak": "passages of one article are in two splits",
    "duplicate_leak": "near-duplicates are in two splits",
    "duplicate_conflict": "near-duplicates have other topics",
    "label_error": "the label is likely wrong",
    "no_words": "the text has no words",
    "too_long": "the text is too long",
    "damaged": "the text holds replacement or control characters",
}
LEAKS = ("article_leak", "duplicate_leak")


@dataclass(frozen=True)
class Finding:
    """Something that is likely wrong.

    Parameters
    ----------
    kind : a key of `KINDS`.
    passage_ids : the passage, or all passages that it is about.
    detail : in words.
    topic : the topic in question, for "label_error".
    probability : of the given label by a model that did not see it, in [0, 1], for
        "label_error"; the lower, the likelier the error.
    """

    kind: str
    passage_ids: tuple[str, ...]
    detail: str
    topic: str | None = None
    probability: float | None = None


@dataclass(frozen=True)
class QualityReport:
    """What was looked at and what was found.

    Parameters
    ----------
    checked : kinds that were looked for; what is not here was not looked for.
    findings : by kind in the order of `KINDS`, the worst first.
    """

    n_passages: int
    checked: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Findings of each kind that was looked for."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in self.checked}

    @property
    def has_leaks(self) -> bool:
        """Whether a test figure could not be trusted."""
        return any(finding.kind in LEAKS for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "n_passages": self.n_passages,
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
        }


def check_data(
    passages: Sequence[LabelledPassage],
    codebook: Codebook,
    *,
    splits: Sequence[str] | None = None,
    y_prob: np.ndarray | None = None,
    max_words: int = 400,
) -> QualityReport:
    """Look for leaks between splits, labels that are likely wrong, and unfit texts.

    Parameters
    ----------
    splits : of each passage; None leaves leaks out.
    y_prob : shape (n_passages, n_topics), in [0, 1], by models that did not see the passage
        (`predict_out_of_fold`); None leaves likely label errors out.
    max_words : longer texts are named.

    Raises
    ------
    ValueError
        If `splits` or `y_prob` has another number of passages.
    """
    for name, given in (("splits", splits), ("y_prob", y_prob)):
        if given is not None and len(given) != len(passages):
            raise ValueError(f"Got {len(given)} {name} but expected {len(passages)}.")
    near_duplicates = find_near_duplicates([passage.text for passage in passages])
    findings = [
        *_conflicting_duplicates(passages, near_duplicates),
        *itertools.chain.from_iterable(_check_text(passage, max_words) for passage in passages),
    ]
    unchecked: set[str] = set()
    if splits is None:
        unchecked.update(LEAKS)
    else:
        findings += _leaks(passages, splits, near_duplicates)
    if y_prob is None:
        unchecked.add("label_error")
    else:
        findings += find_label_errors(passages, y_prob, codebook)
    order = {kind: position for position, kind in enumerate(KINDS)}
    return QualityReport(
        n_passages=len(passages),
        checked=tuple(kind for kind in KINDS if kind not in unchecked),
        findings=tuple(sorted(findings, key=lambda f: (order[f.kind], f.probability or 0.0))),
    )


def find_label_errors(
    passages: Sequence[LabelledPassage], y_prob: np.ndarray, codebook: Codebook
) -> list[Finding]:
    """Name labels that a model which did not see them finds improbable.

    Confident learning, each topic by itself (Northcutt, Jiang and Chuang 2021,
    https://doi.org/10.1613/jair.1.12125), by the library cleanlab.

    Parameters
    ----------
    y_prob : shape (n_passages, n_topics), in [0, 1], out of fold.

    Returns
    -------
    Findings, the least probable labels first. A topic that all or no passages have is passed
    over.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise MissingExtraError("cleanlab", "data") from error
    findings = []
    for column, topic in enumerate(codebook.names):
        given = np.array([topic in passage.topics for passage in passages], dtype=int)
        if len(set(given.tolist())) < 2:
            continue
        y_topic = np.stack([1 - y_prob[:, column], y_prob[:, column]], axis=1)  # (n_passages, 2)
        ranked = find_label_issues(
            given, y_topic, return_indices_ranked_by="self_confidence", n_jobs=1
        )
        for position in ranked:
            passage, has = passages[position], bool(given[position])
            doubt = "; the annotator was unsure of it" if topic in passage.unsure else ""
            findings.append(
                Finding(
                    kind="label_error",
                    passage_ids=(passage.passage_id,),
                    detail=f"{'has' if has else 'lacks'} {topic}{doubt}",
                    topic=topic,
                    probability=float(y_topic[position, int(has)]),
                )
            )
    return sorted(findings, key=lambda finding: finding.probability or 0.0)


def predict_out_of_fold(
    passages: Sequence[LabelledPassage],
    codebook: Codebook,
    *,
    settings: BaselineSettings | None = None,
    normalize_settings: NormalizeSettings | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Give each topic's probability by baselines that saw neither the passage nor its article.

    Returns
    -------
    Shape (n_passages, n_topics), float32, in [0, 1], uncalibrated.

    Raises
    ------
    ValueError
        If there are fewer groups of passages than folds.
    """
    from relclass.dataset import to_arrays
    from relclass.models.baseline import fit_baseline
    from relclass.normalize import normalize_all

    steps = normalize_settings or NormalizeSettings()
    arrays = to_arrays(passages, codebook)
    texts = normalize_all(arrays.texts, arrays.languages, steps)
    folds = _folds(passages, n_folds=n_folds, seed=seed)
    y_prob = np.zeros(arrays.y_true.shape, dtype=np.float32)
    for fold in range(n_folds):
        seen, unseen = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        scorer = fit_baseline(
            [texts[i] for i in seen],
            arrays.y_true[seen],
            arrays.weights[seen],
            settings or BaselineSettings(),
        )
        logits = scorer.score([texts[i] for i in unseen])
        y_prob[unseen] = 1 / (1 + np.exp(-logits))
    return y_prob


def _folds(passages: Sequence[LabelledPassage], *, n_folds: int, seed: int) -> np.ndarray:
    near_duplicates = find_near_duplicates([passage.text for passage in passages])
    articles = [(passage.origin, passage.article_id) for passage in passages]
    groups = group_passages(articles, near_duplicates)
    if len(set(groups.tolist())) < n_folds:
        raise ValueError(
            f"Got n_folds={n_folds} but expected at most the {len(set(groups.tolist()))} "
            "articles that share no text."
        )
    strata = [
        [f"{p.origin}/{p.language}", *(f"{p.origin}/{topic}" for topic in p.topics)]
        for p in passages
    ]
    return split_groups(groups, strata, shares=[1 / n_folds] * n_folds, seed=seed)


def _leaks(
    passages: Sequence[LabelledPassage],
    splits: Sequence[str],
    near_duplicates: Sequence[tuple[int, int]],
) -> list[Finding]:
    by_article: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, passage in enumerate(passages):
        by_article[passage.origin, passage.article_id].append(position)
    findings = [
        Finding(
            "article_leak",
            tuple(passages[i].passage_id for i in positions),
            f"article {article_id} is in {_listed(splits[i] for i in positions)}",
        )
        for (_, article_id), positions in by_article.items()
        if len({splits[i] for i in positions}) > 1
    ]
    findings += [
        Finding(
            "duplicate_leak",
            (passages[i].passage_id, passages[j].passage_id),
            f"one is in {splits[i]}, the other in {splits[j]}",
        )
        for i, j in near_duplicates
        if splits[i] != splits[j]
    ]
    return findings


def _conflicting_duplicates(
    passages: Sequence[LabelledPassage], near_duplicates: Sequence[tuple[int, int]]
) -> list[Finding]:
    findings = []
    for i, j in near_duplicates:
        differing = set(passages[i].topics) ^ set(passages[j].topics)
        if differing:
            one, two = (", ".join(passages[k].topics) or "no topic" for k in (i, j))
            findings.append(
                Finding(
                    "duplicate_conflict",
                    (passages[i].passage_id, passages[j].passage_id),
                    f"{one} / {two}",
                )
            )
    return findings


def _check_text(passage: LabelledPassage, max_words: int) -> list[Finding]:
    problems: Mapping[str, str | None] = {
        "no_words": None if re.search(r"[^\W\d_]", passage.text) else repr(passage.text[:40]),
        "too_long": _too_long(passage.text, max_words),
        "damaged": _damage(passage.text),
    }
    return [
        Finding(kind, (passage.passage_id,), detail) for kind, detail in problems.items() if detail
    ]


def _too_long(text: str, max_words: int) -> str | None:
    n_words = len(text.split())
    return f"{n_words} words, expected at most {max_words}" if n_words > max_words else None


def _damage(text: str) -> str | None:
    found = Counter(re.findall("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]", text))
    return ", ".join(f"U+{ord(c):04X} {n} times" for c, n in sorted(found.items())) or None


def _listed(names: Any) -> str:
    return " and ".join(sorted(set(names)))
