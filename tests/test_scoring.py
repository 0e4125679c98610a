import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_data import (
    CODEBOOK,
    TOPICS,
    make_classifier,
    make_gold,
    make_output,
    make_predictions,
    marks_of,
)
from test_predictions_file import to_row, write_jsonl

from relclass.codebook import Codebook, Topic
from relclass.errors import ConfigError, DataError, ModelError
from relclass.evaluation import Bootstrap
from relclass.labelled import write_labelled
from relclass.scoring import Gold, compare_sources, evaluate_source, read_gold, score_source
from relclass.split_file import text_hash

QUICK = Bootstrap(n_resamples=20)
GOLD = Gold("made up", make_gold(8), CODEBOOK)


@pytest.fixture(autouse=True)
def stub_models(monkeypatch):
    """Two models that are loaded by name, the second with its topics in another order."""
    classifier = make_classifier()
    turned = Codebook(version="1.1", topics=tuple(reversed(CODEBOOK.topics)))

    class Turned:
        kind = "turned"

        def score(self, texts):
            return classifier.scorer.score(texts)[:, ::-1]

    models = {
        "words": classifier,
        "turned": replace(classifier, name="turned", codebook=turned, scorer=Turned()),
        "other": replace(
            classifier,
            codebook=Codebook(version="1", topics=(Topic(name="trade", definition="x"),)),
        ),
    }
    monkeypatch.setattr("relclass.models.store.load_model", models.__getitem__)


def write_predictions(path, *, skill=0.3, seed=0):
    y_prob, y_pred = make_output(GOLD.passages, skill=skill, seed=seed)
    rows = [to_row(p) for p in make_predictions(GOLD.passages, y_prob, y_pred)]
    return str(write_jsonl(path, rows))


@pytest.fixture
def labelled(tmp_path):
    path = tmp_path / "gold.jsonl"
    write_labelled(GOLD.passages, path)
    codebook = tmp_path / "codebook.yaml"
    codebook.write_text(json.dumps(CODEBOOK.model_dump(mode="json")), encoding="utf-8")
    return path, codebook


def test_gold_is_read_from_a_file(labelled):
    path, codebook = labelled
    gold = read_gold(str(path), codebook_path=codebook)
    assert gold.name == "gold.jsonl"
    assert gold.passages == GOLD.passages


def test_a_split_is_read_by_the_codebook_given(monkeypatch, labelled):
    _, codebook = labelled
    seen = []

    class Dataset:
        codebook = CODEBOOK

        def part(self, name, *, origin):
            return GOLD.passages

    monkeypatch.setattr("relclass.dataset.load_dataset", lambda s: seen.append(s) or Dataset())
    read_gold("test", codebook_path=codebook)
    assert seen[0].codebook == codebook


def test_only_passages_of_one_origin_are_kept(labelled):
    path, codebook = labelled
    gold = read_gold(str(path), codebook_path=codebook, origin="real")
    assert {p.origin for p in gold.passages} == {"real"}


def test_an_unknown_origin_and_an_empty_choice_are_refused(labelled, tmp_path):
    path, codebook = labelled
    with pytest.raises(ConfigError, match="origin 'press': expected real or authored"):
        read_gold(str(path), codebook_path=codebook, origin="press")
    write_labelled([p for p in GOLD.passages if p.origin == "real"], tmp_path / "real.jsonl")
    with pytest.raises(DataError, match="no labelled passages of origin 'authored'"):
        read_gold(str(tmp_path / "real.jsonl"), codebook_path=codebook, origin="authored")


def test_a_model_is_scored_by_name():
    scored = score_source("words", GOLD)
    np.testing.assert_array_equal(scored.y_pred, marks_of(GOLD.passages))


def test_a_model_with_topics_in_another_order_is_scored_in_golds_order():
    np.testing.assert_array_equal(
        score_source("turned", GOLD).y_prob, score_source("words", GOLD).y_prob
    )


def test_a_model_of_another_codebook_is_refused():
    with pytest.raises(ModelError, match="the model has the topics trade, the gold security"):
        score_source("other", GOLD)


def test_predictions_on_disk_are_told_by_their_suffix(tmp_path):
    scored = score_source(write_predictions(tmp_path / "p.jsonl"), GOLD)
    assert scored.name == "p.jsonl" and scored.classifier is None
    expected, _ = make_output(GOLD.passages, skill=0.3)
    np.testing.assert_allclose(scored.y_prob, expected)


def test_a_models_mistakes_carry_words_and_those_from_disk_do_not(tmp_path):
    gold = Gold("flipped", [replace(p, topics=()) for p in GOLD.passages], CODEBOOK)
    explained = evaluate_source("words", gold, bootstrap=QUICK, n_mistakes=3)
    assert len(explained.mistakes) == 3
    assert all(mistake.words for mistake in explained.mistakes)
    from_disk = evaluate_source(
        write_predictions(tmp_path / "p.jsonl"), gold, bootstrap=QUICK, n_mistakes=3
    )
    assert not any(mistake.words for mistake in from_disk.mistakes)


def test_without_mistakes_an_evaluation_holds_no_text():
    evaluation = evaluate_source("words", GOLD, bootstrap=QUICK, n_mistakes=0)
    assert evaluation.mistakes == ()
    assert evaluation.model == "stub" and evaluation.data == "made up"
    assert evaluation.topics == TOPICS


def test_models_and_files_are_compared(tmp_path):
    path = write_predictions(tmp_path / "p.jsonl")
    found = compare_sources(["words", path], GOLD, bootstrap=QUICK, n_shuffles=50)
    assert found.models == ("stub", "p.jsonl") and found.data == "made up"


def test_models_of_one_name_are_told_apart_by_their_place(tmp_path):
    (tmp_path / "x").mkdir()
    first = write_predictions(tmp_path / "p.jsonl")
    second = write_predictions(tmp_path / "x" / "p.jsonl", seed=1)
    found = compare_sources([first, second], GOLD, bootstrap=QUICK, n_shuffles=20)
    assert found.models == ("p.jsonl", second)


def test_a_model_compared_with_itself_is_refused():
    with pytest.raises(ConfigError, match="words: given twice"):
        compare_sources(["words", "words", "words"], GOLD, bootstrap=QUICK, n_shuffles=10)


def test_gold_of_one_article_is_refused():
    gold = Gold("g", [replace(p, article_id="one") for p in GOLD.passages], CODEBOOK)
    with pytest.raises(DataError, match="passages of one article"):
        compare_sources(["words", "turned"], gold, bootstrap=QUICK, n_shuffles=10)


def test_labels_without_texts_are_gold_beside_a_file_of_texts(labelled, tmp_path):
    rows = {"قطار باری از مرز گذشت.": ["transit"], "هوای فردا بارانی است.": []}
    labels = write_jsonl(
        tmp_path / "labels.jsonl",
        [{"id": text_hash(text), "lang": "fa", "topics": topics} for text, topics in rows.items()],
    )
    texts = write_jsonl(tmp_path / "texts.jsonl", [{"text": text} for text in rows])
    gold = read_gold(str(labels), codebook_path=labelled[1], text_paths=[texts])
    assert gold.name == "labels.jsonl"
    assert {passage.text: list(passage.topics) for passage in gold.passages} == rows


def test_texts_are_refused_for_a_split(tmp_path):
    with pytest.raises(ConfigError, match="--texts: for a file of labels; --config says where"):
        read_gold("test", text_paths=[tmp_path / "texts.jsonl"])
