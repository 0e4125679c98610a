"""Gold + predictions -> where a model goes wrong, and the words that led it there.

Which mistakes there are follows from arrays alone; only the words come from a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from relclass.metrics import infer_thresholds
from relclass.records import LabelledPassage

if TYPE_CHECKING:
    from relclass.models.base import Classifier

WORD = re.compile(r"\w+(?:[\u200c\u200d'’-]\w+)*")
"""A word with its half-spaces, apostrophes and hyphens, in any script."""


@dataclass(frozen=True, slots=True)
class WordWeight:
    """A word of a passage and what it did to one topic's logit.

    Parameters
    ----------
    start, end : characters of the passage's text, half-open.
    weight : logit with the word less logit without it; positive words speak for the topic.
    """

    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True)
class TermWeight:
    """A word, or words in a row, and what each unit of it adds to one topic's logit."""

    term: str
    weight: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """One topic wrongly given to a passage, or wrongly withheld.

    Parameters
    ----------
    topic : the one that is wrong.
    kind : "false alarm" (given, not in gold) or "miss" (in gold, not given).
    confidence : how far the probability is on the wrong side of the threshold, in [0, 1].
    is_unsure : whether the annotator was unsure of this topic.
    words : the words that carried the decision, in order of the text; often none are known.
    """

    passage_id: str
    article_id: str
    language: str
    text: str
    gold: tuple[str, ...]
    predicted: tuple[str, ...]
    topic: str
    kind: str
    probability: float
    confidence: float
    is_unsure: bool
    note: str | None = None
    words: tuple[WordWeight, ...] = ()


def topic_confusion(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Count which topic was given where another was missed.

    In multi-label data a wrong mark replaces none in particular; as in the multi-label
    confusion matrix (Heydarian, Doyle and Samavi 2022,
    https://doi.org/10.1109/ACCESS.2022.3151048), every missed topic of a passage is set against
    every topic falsely given to the same passage, and against "none" where there is none.

    Returns
    -------
    Shape (n_topics + 1, n_topics + 1), int64. Rows are gold, columns given, the last of each is
    "none". The diagonal counts the right marks, its last cell passages rightly without a topic;
    cell [i, j] counts passages where i was missed and j falsely given; the last column holds
    misses that nothing replaced, the last row false alarms in passages that miss nothing.
    """
    true, pred = y_true.astype(bool), y_pred.astype(bool)
    missed, false = true & ~pred, ~true & pred
    n_topics = true.shape[1]
    matrix = np.zeros((n_topics + 1, n_topics + 1), dtype=np.int64)
    matrix[:-1, :-1] = missed.astype(np.int64).T @ false.astype(np.int64)
    matrix[range(n_topics), range(n_topics)] = (true & pred).sum(axis=0)
    matrix[:-1, -1] = missed[~false.any(axis=1)].sum(axis=0)
    matrix[-1, :-1] = false[~missed.any(axis=1)].sum(axis=0)
    matrix[-1, -1] = int((~true & ~pred).all(axis=1).sum())
    return matrix


def find_mistakes(
    gold: Sequence[LabelledPassage],
    y_pred: np.ndarray,
    y_prob: np.ndarray,
    topics: Sequence[str],
    *,
    n_mistakes: int | None = None,
) -> list[Mistake]:
    """List wrong topics, the most confident first.

    Parameters
    ----------
    gold : the passages, in the order of the rows.
    y_pred, y_prob : shape (n_passages, n_topics).
    topics : names of the columns.
    n_mistakes : how many to keep; None keeps all.
    """
    y_true = np.array(
        [[topic in passage.topics for topic in topics] for passage in gold], dtype=bool
    ).reshape(len(gold), len(topics))
    thresholds = infer_thresholds(y_prob, y_pred)
    given = y_pred.astype(bool)
    confidence = np.where(
        given, (y_prob - thresholds) / (1 - thresholds), (thresholds - y_prob) / thresholds
    )
    rows, columns = np.nonzero(y_true != given)
    order = np.argsort(-confidence[rows, columns], kind="stable")[:n_mistakes]
    mistakes = []
    for row, column in zip(rows[order], columns[order], strict=True):
        passage = gold[row]
        mistakes.append(
            Mistake(
                passage_id=passage.passage_id,
                article_id=passage.article_id,
                language=passage.language,
                text=passage.text,
                gold=passage.topics,
                predicted=tuple(t for t, flag in zip(topics, given[row], strict=True) if flag),
                topic=topics[column],
                kind="false alarm" if given[row, column] else "miss",
                probability=float(y_prob[row, column]),
                confidence=float(np.clip(confidence[row, column], 0, 1)),
                is_unsure=topics[column] in passage.unsure,
                note=passage.note,
            )
        )
    return mistakes


def explain_mistakes(mistakes: Iterable[Mistake], classifier: Classifier) -> list[Mistake]:
    """Add to each mistake the words that carried it, by `carrying_words`."""
    explained = []
    for mistake in mistakes:
        words = carrying_words(
            classifier, mistake.text, topic=mistake.topic, language=mistake.language
        )
        explained.append(replace(mistake, words=words))
    return explained


def heaviest_terms(
    classifier: Classifier, *, n_terms: int = 20
) -> dict[str, tuple[TermWeight, ...]]:
    """Read off a linear model which terms speak for each topic, the heaviest first.

    Returns
    -------
    Empty for a model that is not linear: its scorer has no `top_terms`.
    """
    top_terms = getattr(classifier.scorer, "top_terms", None)
    if top_terms is None:
        return {}
    return {
        topic: tuple(TermWeight(term, float(weight)) for term, weight in top_terms(k, n_terms))
        for k, topic in enumerate(classifier.topics)
    }


def carrying_words(
    classifier: Classifier, text: str, *, topic: str, language: str, max_words: int = 8
) -> tuple[WordWeight, ...]:
    """Find the words that moved one topic's logit the most, by leaving each out in turn.

    Occlusion (Zeiler and Fergus 2014, https://doi.org/10.1007/978-3-319-10590-1_53; by word, Li,
    Monroe and Jurafsky 2016, https://arxiv.org/abs/1612.08220): works with any model, at the
    price of scoring the passage once per word, in one call.

    Parameters
    ----------
    text : one passage.
    topic : one of the classifier's.
    language : the passage's language code.
    max_words : the words of largest absolute weight that are kept.

    Returns
    -------
    In order of the text; words that change nothing are left out.

    Raises
    ------
    ValueError
        If the topic is not one of the classifier's.
    """
    if topic not in classifier.topics:
        raise ValueError(f"Got topic={topic!r} but expected one of {', '.join(classifier.topics)}.")
    spans = [match.span() for match in WORD.finditer(text)]
    variants = [text, *(text[:start] + " " + text[end:] for start, end in spans)]
    logits = classifier.predict_logits(variants, [language] * len(variants))
    column = logits[:, classifier.topics.index(topic)].astype(np.float64)
    words = [
        WordWeight(start, end, float(column[0] - without))
        for (start, end), without in zip(spans, column[1:], strict=True)
    ]
    heaviest = sorted(words, key=lambda word: -abs(word.weight))[:max_words]
    return tuple(sorted((w for w in heaviest if w.weight), key=lambda word: word.start))
