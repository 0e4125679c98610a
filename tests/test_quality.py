import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from relclass.codebook import Codebook, Topic
from relclass.quality import check_data, find_label_errors, predict_out_of_fold
from relclass.records import LabelledPassage

CODEBOOK = Codebook(
    version="1", topics=tuple(Topic(name=name, definition=name) for name in ("energy", "transit"))
)
WORDS = {"energy": "گاز نیروگاه برق", "transit": "کامیون گذرگاه گمرک", "": "کنسرت نقاشی شعر"}


def passage(n, topic, *, article=None, text=None):
    text = text or f"{WORDS[topic]} {n * 7919} {'abcdefgh'[n % 8] * 9} {n * 104729}"
    return LabelledPassage(f"p{n}", article or f"a{n}", text, "fa", (topic,) if topic else ())


PASSAGES = [passage(n, ("energy", "transit", "")[n % 3]) for n in range(60)]
TRUE = np.array([[topic in p.topics for topic in CODEBOOK.names] for p in PASSAGES])


def kinds(report):
    return [(finding.kind, finding.passage_ids) for finding in report.findings]


def test_clean_data_gives_no_findings():
    report = check_data(PASSAGES, CODEBOOK, splits=["train"] * 60, y_prob=TRUE * 0.9 + 0.05)
    assert report.findings == () and not report.has_leaks
    assert set(report.counts.values()) == {0} and len(report.counts) == 7


def test_an_article_in_two_splits_is_a_leak():
    rows = [passage(0, "energy", article="a"), passage(1, "", article="a"), passage(2, "transit")]
    report = check_data(rows, CODEBOOK, splits=["train", "test", "test"])
    assert kinds(report) == [("article_leak", ("p0", "p1"))] and report.has_leaks
    assert report.findings[0].detail == "article a is in test and train"


def test_near_duplicates_in_two_splits_are_a_leak_and_their_topics_must_agree():
    text = "واگن‌های باری راه‌آهن تازه از ایستگاه مرزی آستارا به راه افتادند"
    rows = [passage(0, "transit", text=text), passage(1, "", text=text + " !")]
    report = check_data(rows, CODEBOOK, splits=["train", "validation"])
    assert kinds(report) == [
        ("duplicate_leak", ("p0", "p1")), ("duplicate_conflict", ("p0", "p1")),
    ]  # fmt: skip
    assert report.findings[1].detail == "transit / no topic"
    agreeing = [rows[0], replace(rows[1], topics=("transit",))]
    assert check_data(agreeing, CODEBOOK, splits=["train", "train"]).findings == ()


def test_unfit_texts_are_named():
    rows = [
        passage(0, "", text="۱۲۳ — ..."),
        passage(1, "", text="کلمه‌ای دیگر " * 30),
        passage(2, "", text="متن\ufffd خراب\x00\ufffd شده"),
        passage(3, "", text="متنی\tدرست\r\nدو سطر"),
    ]
    report = check_data(rows, CODEBOOK, max_words=50)
    assert kinds(report) == [("no_words", ("p0",)), ("too_long", ("p1",)), ("damaged", ("p2",))]
    assert report.findings[1].detail == "60 words, expected at most 50"
    assert report.findings[2].detail == "U+0000 1 times, U+FFFD 2 times"


def test_what_was_not_looked_for_is_not_counted_as_clean():
    assert set(check_data(PASSAGES, CODEBOOK).counts) == {
        "duplicate_conflict", "no_words", "too_long", "damaged",
    }  # fmt: skip


def test_swapped_labels_are_found_first():
    rows = list(PASSAGES)
    rows[3] = replace(rows[3], topics=(), unsure=("energy",))  # was energy
    rows[5] = replace(rows[5], topics=("transit",))  # had no topic
    y_prob = np.where(TRUE, 0.9, 0.1)
    y_prob[3, 0] = 0.97
    found = find_label_errors(rows, y_prob, CODEBOOK)
    assert [(f.passage_ids[0], f.topic) for f in found[:2]] == [("p3", "energy"), ("p5", "transit")]
    assert found[0].detail == "lacks energy; the annotator was unsure of it"
    assert found[0].probability == pytest.approx(0.03) and found[1].detail == "has transit"


def test_a_topic_that_no_passage_has_is_passed_over():
    rows = [replace(p, topics=()) for p in PASSAGES]
    assert find_label_errors(rows, np.full((60, 2), 0.1), CODEBOOK) == []


def test_the_report_is_json_with_counts():
    rows = [passage(0, "", text="…")]
    report = check_data(rows, CODEBOOK).to_dict()
    assert report["n_passages"] == 1 and report["counts"]["no_words"] == 1
    assert report["findings"][0]["passage_ids"] == ("p0",)


@pytest.mark.parametrize("name", ["splits", "y_prob"])
def test_columns_of_another_length_are_refused(name):
    with pytest.raises(ValueError, match=f"Got 1 {name} but expected 60"):
        check_data(PASSAGES, CODEBOOK, **{name: ["train"] if name == "splits" else TRUE[:1]})


@pytest.fixture
def spy(monkeypatch):
    """Stand in for the baseline: a constant model that notes what it saw and what it scored."""
    seen = []

    class Scorer:
        def __init__(self, texts):
            self.texts = set(texts)

        def score(self, texts):
            seen.append((self.texts, set(texts)))
            return np.zeros((len(texts), 2), dtype=np.float32)

    module = ModuleType("relclass.models.baseline")
    module.fit_baseline = lambda texts, y_true, weights, settings: Scorer(texts)
    monkeypatch.setitem(sys.modules, "relclass.models.baseline", module)
    return seen


def test_no_model_scores_what_it_has_seen_nor_its_article_or_near_duplicate(spy):
    text = "ایستگاه پمپاژ خط لوله صادرات گاز در نزدیکی مرز آستارا به مدار آمد"
    rows = [
        *PASSAGES,
        passage(70, "energy", article="a0"),
        passage(71, "energy", text=text),
        passage(72, "energy", text=text + "."),
    ]
    y_prob = predict_out_of_fold(rows, CODEBOOK, n_folds=3)
    assert y_prob.shape == (63, 2) and np.all(y_prob == 0.5)
    assert len(spy) == 3
    assert sum(len(scored) for _, scored in spy) == len({p.text for p in rows})
    together = [{rows[0].text, rows[60].text}, {rows[61].text, rows[62].text}]
    for fitted, scored in spy:
        assert not fitted & scored
        for pair in together:
            assert not (pair & fitted and pair & scored)


def test_more_folds_than_articles_are_refused(spy):
    with pytest.raises(ValueError, match="Got n_folds=5 but expected at most the 2 articles"):
        predict_out_of_fold(PASSAGES[:2], CODEBOOK)
