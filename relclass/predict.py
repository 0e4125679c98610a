"""Passages in, Predictions out, in the same order, as a stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice

import numpy as np

from relclass.batching import BatchSettings, deduplicate, plan_batches, windows
from relclass.models.base import Classifier
from relclass.passages import PassageSettings, split_passages
from relclass.records import Article, Passage, Prediction
from relclass.thresholds import apply_thresholds


@dataclass(frozen=True, slots=True)
class ArticleTopics:
    """An article with the topics of its passages together.

    Parameters
    ----------
    language : that of most of its characters; "other" where it has no passage.
    n_passages : passages labelled; furniture is none.
    topics : those that any passage has, in codebook order.
    probabilities : topic to the highest probability among the passages, in [0, 1].
    n_passages_by_topic : topic to the number of passages that have it.
    model : name of the model that made it.
    """

    article_id: str
    language: str
    n_passages: int
    topics: tuple[str, ...]
    probabilities: dict[str, float]
    n_passages_by_topic: dict[str, int]
    model: str


def predict_articles(
    articles: Iterable[Article],
    clf: Classifier,
    *,
    passages: PassageSettings | None = None,
    batching: BatchSettings | None = None,
) -> Iterator[Prediction]:
    """Split articles into passages and label them.

    Parameters
    ----------
    articles : any iterable, also an endless one; read a window ahead.
    clf : the model, such as ``relclass.load()``.
    passages, batching : how articles are cut and passages put together; None takes the defaults.

    Yields
    ------
    One Prediction a passage, articles and passages in their order. An article that holds nothing
    but page furniture gives none.
    """
    settings = PassageSettings() if passages is None else passages
    pieces = (passage for article in articles for passage in split_passages(article, settings))
    return predict_passages(pieces, clf, batching=batching)


def label_articles(
    articles: Sequence[Article],
    clf: Classifier,
    *,
    passages: PassageSettings | None = None,
    batching: BatchSettings | None = None,
) -> list[list[Prediction]]:
    """Label a handful of articles at once; parameters as in `predict_articles`.

    Returns
    -------
    The predictions of each article, which may be none.
    """
    settings = PassageSettings() if passages is None else passages
    pieces = [split_passages(article, settings) for article in articles]
    stream = predict_passages(chain.from_iterable(pieces), clf, batching=batching)
    return [list(islice(stream, len(group))) for group in pieces]


def predict_passages(
    passages: Iterable[Passage], clf: Classifier, *, batching: BatchSettings | None = None
) -> Iterator[Prediction]:
    """Label passages: equal ones in a window once, ones of like length together.

    Parameters
    ----------
    passages : any iterable; read a window ahead.
    clf : the model.
    batching : how passages are put together; None takes the defaults.

    Yields
    ------
    One Prediction a passage, in their order.

    Raises
    ------
    TypeError
        If an item is not a Passage.
    """
    settings = BatchSettings() if batching is None else batching
    for window in windows(passages, settings.window):
        y_prob = _predict_window(window, clf, settings)
        y_pred = apply_thresholds(y_prob, clf.thresholds)
        for passage, row, flags in zip(window, y_prob.tolist(), y_pred, strict=True):
            yield Prediction(
                article_id=passage.article_id,
                passage_id=passage.passage_id,
                index=passage.index,
                start=passage.start,
                end=passage.end,
                language=passage.language,
                text=passage.text,
                topics=clf.topic_names(flags),
                probabilities=dict(zip(clf.topics, row, strict=True)),
                model=clf.name,
            )


def gather_articles(predictions: Iterable[Prediction]) -> Iterator[ArticleTopics]:
    """Put the predictions of each article together.

    Parameters
    ----------
    predictions : those of one article next to each other, as `predict_articles` gives them.
    """
    for article_id, group in groupby(predictions, key=lambda prediction: prediction.article_id):
        members = list(group)
        yield article_topics(article_id, members, tuple(members[0].probabilities), members[0].model)


def article_topics(
    article_id: str, predictions: Sequence[Prediction], topics: Sequence[str], model: str
) -> ArticleTopics:
    """Put the predictions of one article together.

    Parameters
    ----------
    predictions : those of its passages; may be empty.
    topics : names of all topics, in codebook order.
    model : name of the model.
    """
    chars: Counter[str] = Counter()
    for prediction in predictions:
        chars[prediction.language] += len(prediction.text)
    counts = {topic: sum(topic in p.topics for p in predictions) for topic in topics}
    highest = {
        topic: max((p.probabilities[topic] for p in predictions), default=0.0) for topic in topics
    }
    return ArticleTopics(
        article_id=article_id,
        language=chars.most_common(1)[0][0] if chars else "other",
        n_passages=len(predictions),
        topics=tuple(topic for topic, count in counts.items() if count),
        probabilities=highest,
        n_passages_by_topic=counts,
        model=model,
    )


def _predict_window(
    window: Sequence[Passage], clf: Classifier, settings: BatchSettings
) -> np.ndarray:
    for passage in window:
        if not isinstance(passage, Passage):
            raise TypeError(
                f"Got {type(passage).__name__} but expected Passage: for plain texts use "
                "clf.predict_topics(texts)."
            )
    first, inverse = deduplicate([(passage.language, passage.text) for passage in window])
    distinct = [window[position] for position in first]
    y_prob = np.zeros((len(distinct), len(clf.topics)), dtype=np.float32)
    for batch in plan_batches([len(passage.text) for passage in distinct], settings):
        y_prob[batch] = clf.predict_proba(
            [distinct[position].text for position in batch],
            [distinct[position].language for position in batch],
        )
    restored: np.ndarray = y_prob[inverse]  # (n_passages in the window, n_topics)
    return restored
