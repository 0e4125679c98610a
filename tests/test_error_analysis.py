from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import CODEBOOK, TOPICS, WORDS, make_classifier, make_gold, marks_of

from relclass.error_analysis import (
    WORD,
    carrying_words,
    explain_mistakes,
    find_mistakes,
    heaviest_terms,
    topic_confusion,
)


def test_the_confusion_of_topics_is_that_counted_by_hand():
    y_true = np.array([[1, 0], [1, 0], [0, 0], [1, 1], [0, 0]])
    y_pred = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [0, 0]])
    # passage 1 right; 2 takes the second for the first; 3 a false alarm alone; 4 misses the
    # first alone and has the second right; 5 rightly without a topic
    expected = [[1, 1, 1], [0, 1, 0], [0, 1, 1]]
    np.testing.assert_array_equal(topic_confusion(y_true, y_pred), expected)


def test_mistakes_come_most_confident_first_and_say_what_is_wrong():
    gold = [replace(p, topics=("energy",), unsure=()) for p in make_gold(1)]
    gold[1] = replace(gold[1], unsure=("energy",))
    y_prob = np.array([[0, 0, 0.9, 0], [0, 0, 0.3, 0], [0.95, 0, 0.8, 0]])
    y_pred = (y_prob >= 0.5).astype(np.uint8)
    mistakes = find_mistakes(gold, y_pred, y_prob, TOPICS)
    assert [(m.passage_id, m.topic, m.kind) for m in mistakes] == [
        ("a0/2", "security", "false alarm"),
        ("a0/1", "energy", "miss"),
    ]
    assert mistakes[0].predicted == ("security", "energy")
    assert mistakes[1].probability == pytest.approx(0.3)
    assert [m.is_unsure for m in mistakes] == [False, True]


def test_only_as_many_mistakes_as_asked_for_are_kept():
    gold = make_gold(5)
    y_pred = 1 - marks_of(gold)
    assert len(find_mistakes(gold, y_pred, y_pred * 1.0, TOPICS, n_mistakes=3)) == 3
    assert len(find_mistakes(gold, y_pred, y_pred * 1.0, TOPICS)) == 60


def test_right_predictions_have_no_mistakes():
    gold = make_gold(5)
    assert find_mistakes(gold, marks_of(gold), marks_of(gold) * 1.0, TOPICS) == []


@pytest.mark.parametrize(("language", "frame"), [("fa", 0), ("ar", 1), ("en", 2)])
def test_the_word_that_carries_a_topic_is_found(language, frame):
    word = WORDS["transit"][frame]
    text = f"{WORDS['energy'][frame]} + {word} …"
    words = carrying_words(make_classifier(), text, topic="transit", language=language)
    assert [text[w.start : w.end] for w in words] == [word]
    assert words[0].weight == pytest.approx(3)


def test_words_that_change_nothing_are_left_out():
    assert carrying_words(make_classifier(), "یک جمله", topic="energy", language="fa") == ()


def test_the_heaviest_words_are_kept_in_order_of_the_text():
    text = "gas army gas"

    class Graded:
        kind = "graded"

        def score(self, texts):
            return np.array([[0, 0, 2.0 * t.count("gas") + t.count("army"), 0] for t in texts])

    classifier = replace(make_classifier(), scorer=Graded())
    words = carrying_words(classifier, text, topic="energy", language="en", max_words=2)
    assert [(w.start, w.weight) for w in words] == [(0, 2), (9, 2)]


def test_an_empty_passage_has_no_words():
    assert carrying_words(make_classifier(), " ", topic="energy", language="fa") == ()


def test_an_unknown_topic_is_refused():
    with pytest.raises(ValueError, match="topic='trade' but expected one of security"):
        carrying_words(make_classifier(), "x", topic="trade", language="en")


def test_a_word_keeps_its_half_space_and_apostrophe():
    assert WORD.findall("راه‌آهن Bakı'nın co-operation، گاز") == [
        "راه‌آهن", "Bakı'nın", "co-operation", "گاز"
    ]  # fmt: skip


def test_each_mistake_is_explained_by_its_own_topic():
    gold = [replace(make_gold(1)[0], text="gas by railway", topics=(), language="en")]
    y_prob = np.array([[0.1, 0.7, 0.8, 0.1]])
    mistakes = find_mistakes(gold, (y_prob > 0.5).astype(int), y_prob, TOPICS)
    explained = explain_mistakes(mistakes, make_classifier())
    carried = {m.topic: [m.text[w.start : w.end] for w in m.words] for m in explained}
    assert carried == {"energy": ["gas"], "transit": ["railway"]}
    assert CODEBOOK.names == TOPICS


def test_a_linear_model_tells_its_heaviest_terms_and_another_has_none():
    class Linear:
        def top_terms(self, column, n_terms):
            return [(f"term {column}", 2.5)][:n_terms]

    terms = heaviest_terms(replace(make_classifier(), scorer=Linear()), n_terms=1)
    assert {topic: [t.term for t in found] for topic, found in terms.items()} == {
        topic: [f"term {k}"] for k, topic in enumerate(TOPICS)
    }
    assert heaviest_terms(make_classifier()) == {}
