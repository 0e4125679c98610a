import itertools

import numpy as np
import pytest
from batch_stubs import SENTENCES, TOPICS, SpyScorer, make_classifier, make_passage
from hypothesis import given, settings
from hypothesis import strategies as st

from relclass.batching import BatchSettings
from relclass.predict import (
    article_topics,
    gather_articles,
    label_articles,
    predict_articles,
    predict_passages,
)
from relclass.records import Article, Span

SMALL = BatchSettings(window=5, max_chars=40, max_passages=3)
texts = st.lists(st.text(alphabet="abcd ", max_size=20), max_size=30)


@settings(max_examples=50)
@given(texts)
def test_a_stream_gives_what_each_passage_gets_by_itself(texts):
    clf = make_classifier(SpyScorer())
    passages = [make_passage(text, index=index) for index, text in enumerate(texts)]
    predictions = list(predict_passages(iter(passages), clf, batching=SMALL))
    assert [p.passage_id for p in predictions] == [p.passage_id for p in passages]
    for text, prediction in zip(texts, predictions, strict=True):
        alone = clf.predict_proba([text], ["fa"])[0]
        assert list(prediction.probabilities.values()) == alone.tolist()
        assert prediction.topics == clf.predict_topics([text], ["fa"])[0]


@given(texts)
def test_equal_passages_of_a_window_are_scored_once(texts):
    scorer = SpyScorer()
    passages = [make_passage(text, index=index) for index, text in enumerate(texts)]
    window = BatchSettings(window=100, max_chars=40, max_passages=3)
    list(predict_passages(passages, make_classifier(scorer), batching=window))
    scored = list(itertools.chain.from_iterable(scorer.batches))
    assert len(scored) == len(set(texts))


def test_the_same_text_in_two_languages_is_scored_twice():
    scorer = SpyScorer()
    passages = [make_passage("نفت", language=language) for language in ("fa", "ar", "fa")]
    list(predict_passages(passages, make_classifier(scorer)))
    assert [len(batch) for batch in scorer.batches] == [2]


def test_passages_are_read_no_further_than_a_window_ahead():
    taken = []

    def endless():
        for index in itertools.count():
            taken.append(index)
            yield make_passage(f"text {index}", index=index)

    stream = predict_passages(endless(), make_classifier(SpyScorer()), batching=SMALL)
    assert next(stream).index == 0
    assert len(taken) == SMALL.window


def test_a_prediction_carries_its_passage_and_model():
    passage = make_passage(SENTENCES[0], article_id="x", language="en")
    (prediction,) = predict_passages([passage], make_classifier(name="m"))
    for name in ("article_id", "passage_id", "index", "start", "end", "language", "text"):
        assert getattr(prediction, name) == getattr(passage, name)
    assert prediction.topics == ("transit",)
    assert tuple(prediction.probabilities) == TOPICS
    assert prediction.model == "m"


def test_an_empty_text_has_no_topic():
    (prediction,) = predict_passages([make_passage("  ")], make_classifier(SpyScorer()))
    assert prediction.topics == ()
    assert set(prediction.probabilities.values()) == {0.0}


def test_plain_texts_are_refused_with_what_to_use():
    with pytest.raises(TypeError, match=r"Got str but expected Passage.*clf.predict_topics"):
        list(predict_passages(["text"], make_classifier()))


def make_articles():
    furniture = "کد خبر: 12345"
    return [
        Article("one", f"{SENTENCES[0]}\n{SENTENCES[1]}"),
        Article("none", furniture, furniture=(Span(0, len(furniture), "news_code"),)),
        Article("two", SENTENCES[2]),
    ]


def test_articles_give_their_passages_in_order_with_offsets_into_the_text():
    articles = {article.article_id: article for article in make_articles()}
    predictions = list(predict_articles(articles.values(), make_classifier()))
    assert [p.passage_id for p in predictions] == ["one/0", "one/1", "two/0"]
    assert [p.topics for p in predictions] == [("transit",), ("energy",), ("security",)]
    for prediction in predictions:
        text = articles[prediction.article_id].text
        assert text[prediction.start : prediction.end] == prediction.text


def test_articles_labelled_at_once_keep_those_without_a_passage():
    groups = label_articles(make_articles(), make_classifier())
    assert [[p.passage_id for p in group] for group in groups] == [
        ["one/0", "one/1"],
        [],
        ["two/0"],
    ]
    assert list(itertools.chain(*groups)) == list(
        predict_articles(make_articles(), make_classifier())
    )


def test_an_article_has_the_union_of_its_passages_topics_and_their_highest_probability():
    predictions = list(predict_articles(make_articles(), make_classifier()))
    one, two = gather_articles(predictions)
    assert one.topics == ("transit", "energy")
    assert one.n_passages == 2
    assert one.n_passages_by_topic == {"security": 0, "transit": 1, "energy": 1, "karabakh": 0}
    expected = np.max([list(p.probabilities.values()) for p in predictions[:2]], axis=0)
    assert list(one.probabilities.values()) == expected.tolist()
    assert one.language == "en"  # most of its characters
    assert two.topics == ("security",)


def test_an_article_without_a_passage_has_no_topic():
    nothing = article_topics("none", [], TOPICS, "m")
    assert (nothing.topics, nothing.n_passages, nothing.language) == ((), 0, "other")
    assert nothing.probabilities == dict.fromkeys(TOPICS, 0.0)
