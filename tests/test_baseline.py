import logging

import numpy as np
import pytest

from relclass.codebook import Codebook, Topic
from relclass.config import BaselineSettings
from relclass.errors import DataError, ModelError
from relclass.models.array_file import read_arrays, write_arrays
from relclass.models.baseline import MODEL_FILE, BaselineScorer, fit_baseline
from relclass.models.lexicon import LEXICON_FILE

CODEBOOK = Codebook(
    version="1",
    topics=tuple(Topic(name=name, definition=name) for name in ("energy", "transit")),
)
SETTINGS = BaselineSettings(min_df=1)
ENERGY = ["گاز", "برق", "gas", "neft", "الكهرباء", "elektrik"]
TRANSIT = ["قطار", "کامیون", "railway", "qatar", "الشاحنات", "tır"]
OTHER = ["جشنواره", "موسیقی", "festival", "musiqi", "المهرجان", "konser"]


def make_passages(n_passages=120, seed=0):
    """Passages of ten words; those of a topic hold one of its words."""
    rng = np.random.default_rng(seed)
    y_true = (rng.random((n_passages, 2)) < 0.35).astype(np.uint8)
    texts = []
    for row in y_true:
        words = [str(rng.choice(OTHER)) for _ in range(8)]
        words += [str(rng.choice(w)) for w, y in zip((ENERGY, TRANSIT), row, strict=True) if y]
        texts.append(" ".join(rng.permutation(words)))
    return texts, y_true


@pytest.fixture(scope="module")
def passages():
    return make_passages()


@pytest.fixture(scope="module")
def scorer(passages):
    return fit_baseline(*passages, None, SETTINGS)


def test_it_learns_what_can_be_learnt(scorer):
    texts, y_true = make_passages(seed=1)
    logits = scorer.score(texts)
    assert logits.shape == (120, 2) and logits.dtype == np.float32
    assert ((logits > 0) == y_true).mean() > 0.97


def test_a_batch_of_one_equals_a_batch_of_many(scorer, passages, monkeypatch):
    together = scorer.score(passages[0])
    alone = np.concatenate([scorer.score([text]) for text in passages[0]])
    np.testing.assert_array_equal(together, alone)
    monkeypatch.setattr("relclass.models.baseline._SCORE_BATCH", 7)
    np.testing.assert_array_equal(scorer.score(passages[0]), together)


@pytest.mark.parametrize("text", ["", " \n", "؟!", "\ufffd", "ناشناخته", "x" * 1_000_000])
def test_any_text_gets_a_finite_logit(scorer, text):
    assert np.isfinite(scorer.score([text])).all()
    assert scorer.score([]).shape == (0, 2)


def test_fitting_twice_writes_the_same_bytes(passages, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        fit_baseline(*passages, None, SETTINGS).save(tmp_path / name)
    first, second = (tmp_path / name / MODEL_FILE for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_save_and_load_give_the_same_logits(scorer, passages, tmp_path):
    scorer.save(tmp_path)
    copy = BaselineScorer.load(tmp_path, CODEBOOK)
    np.testing.assert_array_equal(copy.score(passages[0]), scorer.score(passages[0]))
    assert copy.words.terms == scorer.words.terms


def test_weights_count_as_repeated_passages(passages):
    texts, y_true = (part[:60] for part in passages)
    weights = np.ones((60, 2))
    weights[::2] = 2.0
    repeated = np.repeat(np.arange(60), weights[:, 0].astype(int))
    features = BaselineSettings(min_df=1, char_ngrams=(2, 2), word_ngrams=(1, 1))
    weighted = fit_baseline(texts, y_true, weights, features)
    copied = fit_baseline([texts[i] for i in repeated], y_true[repeated], None, features)
    # idf differs a little, as it counts passages; the balance of classes does not
    np.testing.assert_allclose(weighted.score(texts), copied.score(texts), atol=0.15)


def test_a_topic_has_weights_of_its_own(passages):
    texts, y_true = passages
    weights = np.ones(y_true.shape)
    weights[y_true[:, 0] == 1, 0] *= 0.01
    plain = fit_baseline(texts, y_true, None, SETTINGS.model_copy(update={"class_weight": "none"}))
    light = fit_baseline(
        texts, y_true, weights, SETTINGS.model_copy(update={"class_weight": "none"})
    )
    assert light.score(texts)[:, 0].mean() < plain.score(texts)[:, 0].mean() - 1
    np.testing.assert_array_equal(light.score(texts)[:, 1], plain.score(texts)[:, 1])


def test_a_weight_of_zero_leaves_a_passage_out(passages):
    texts, y_true = passages
    wrong = y_true.copy()
    wrong[:20] = 1 - wrong[:20]
    weights = np.ones(len(texts))
    weights[:20] = 0.0
    right = fit_baseline(texts, y_true, weights, SETTINGS)
    np.testing.assert_array_equal(
        fit_baseline(texts, wrong, weights, SETTINGS).score(texts), right.score(texts)
    )


def test_balance_lifts_a_rare_topic(passages):
    texts, y_true = passages
    y_true = y_true.copy()
    y_true[np.flatnonzero(y_true[:, 0])[6:], 0] = 0
    balanced = fit_baseline(texts, y_true, None, SETTINGS)
    plain = fit_baseline(texts, y_true, None, BaselineSettings(min_df=1, class_weight="none"))
    positives = y_true[:, 0] == 1
    assert balanced.score(texts)[positives, 0].min() > plain.score(texts)[positives, 0].max()


@pytest.mark.parametrize("label", [0, 1])
def test_a_topic_of_one_class_gets_its_log_odds_and_a_warning(passages, label, caplog):
    texts, y_true = passages
    y_true = y_true.copy()
    y_true[:, 1] = label
    with caplog.at_level(logging.WARNING):
        scorer = fit_baseline(texts, y_true, None, SETTINGS)
    assert "column 1 has" in caplog.text and "its logit is a constant" in caplog.text
    expected = np.log(121) * (1 if label else -1)
    np.testing.assert_allclose(scorer.score(["gas", ""])[:, 1], expected, rtol=1e-6)


def test_the_top_terms_are_the_topics_words(scorer):
    top = [term for term, _ in scorer.top_terms(0, 6)]
    assert set(top) <= set(ENERGY) | {term for term in top if " " in term}
    assert top[0] in ENERGY
    weights = [weight for _, weight in scorer.top_terms(1, 5)]
    assert weights == sorted(weights, reverse=True) and weights[0] > 0
    assert scorer.top_terms(1, -1)[0][1] < 0


def test_the_contributions_of_words_add_up_to_the_logits(scorer):
    text = "جشنواره gas gas railway نو festival"
    words = scorer.explain(text)
    assert [word for word, _ in words] == text.split()
    total = np.sum([share for _, share in words], axis=0) + scorer.intercepts
    np.testing.assert_allclose(total, scorer.score([text])[0], atol=1e-5)
    shares = {word: share for word, share in words}
    assert shares["gas"][0] > 0 > shares["festival"][0]
    assert max(shares, key=lambda word: shares[word][1]) == "railway"
    assert scorer.explain("") == []


@pytest.mark.parametrize(
    ("texts", "y_true", "weights", "message"),
    [
        (["a"], np.zeros((2, 1)), None, r"Got 1 texts and y_true of shape \(2, 1\)"),
        ([], np.zeros((0, 1)), None, "at least one passage"),
        (["a"], np.zeros(1), None, r"y_true of shape \(1,\)"),
        (["a", "b"], np.eye(2), np.ones(3), r"weights of shape \(3, 1\)"),
        (["a", "b"], np.eye(2), None, "No word or character n-gram is in 2 of the 2"),
    ],
)
def test_what_cannot_be_fitted_is_refused(texts, y_true, weights, message):
    with pytest.raises(ValueError, match=message):
        fit_baseline(texts, y_true, weights, BaselineSettings(char_ngrams=(3, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("weights"), "expected the keys"),
        (lambda c: c.update(extra=np.ones(1)), "expected the keys"),
        (lambda c: c.update(weights=c["weights"][:-1]), "weights of shape"),
        (lambda c: c.update(weights=c["weights"][:, :1]), "the codebook want"),
        (lambda c: c.update(intercepts=np.zeros(3)), "intercepts of shape"),
        (lambda c: c.update(word_idf=c["word_idf"][1:]), "word terms but idf of"),
        (lambda c: c.update(char_terms=np.ones(1)), "not a baseline"),
        (lambda c: c.update(word_ngrams=np.array([1])), "not a baseline"),
        (lambda c: c.update(weights="x"), "not a baseline: could not convert"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(scorer, tmp_path, change, message):
    scorer.save(tmp_path)
    content = read_arrays(tmp_path / MODEL_FILE)
    change(content)
    write_arrays(tmp_path / MODEL_FILE, content)
    with pytest.raises(ModelError, match=message):
        BaselineScorer.load(tmp_path, CODEBOOK)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"model\.safetensors: missing"):
        BaselineScorer.load(tmp_path, CODEBOOK)


# --- with keywords ---


@pytest.fixture(scope="module")
def lexicon_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.yaml"
    path.write_text(
        "exclude: {en: [gas mask]}\n"
        "topics:\n"
        "  energy: {strong: {en: [gas, kerosene]}, weak: {fa: [برق]}}\n"
        "  transit: {strong: {en: [railway, ferry]}}\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def keyword_scorer(passages, lexicon_path):
    return fit_baseline(*passages, None, SETTINGS.model_copy(update={"lexicon": lexicon_path}))


def test_a_keyword_never_seen_in_training_still_speaks(scorer, keyword_scorer):
    texts = ["kerosene", "ferry", "zzz"]
    gain = keyword_scorer.score(texts) - scorer.score(texts)
    assert gain[0, 0] > gain[2, 0] + 0.2  # characters say a little too, in both
    assert gain[1, 1] > gain[2, 1] + 0.2
    assert keyword_scorer.weights.shape[0] == scorer.weights.shape[0] + 4


def test_keyword_counts_are_the_last_columns_by_hand(keyword_scorer):
    text = "gas kerosene gas برق gas mask"
    base = keyword_scorer.score(["mask"])  # no keyword; other features are taken off below
    assert base.shape == (1, 2)
    weights = keyword_scorer.weights[-4:]
    expected = 0.5 * np.log1p([2, 0, 1, 0]) @ weights
    keywords = [s for word, s in keyword_scorer.explain(text) if word.startswith("keyword: ")]
    np.testing.assert_allclose(np.sum(keywords, axis=0), expected, rtol=1e-5)


def test_with_keywords_contributions_still_add_up(keyword_scorer):
    text = "festival gas railway برق"
    words = keyword_scorer.explain(text)
    assert [word for word, _ in words][-3:] == ["keyword: gas", "keyword: برق", "keyword: railway"]
    total = np.sum([share for _, share in words], axis=0) + keyword_scorer.intercepts
    np.testing.assert_allclose(total, keyword_scorer.score([text])[0], atol=1e-5)


def test_keywords_are_saved_with_the_model(keyword_scorer, passages, tmp_path):
    keyword_scorer.save(tmp_path)
    copy = BaselineScorer.load(tmp_path, CODEBOOK)
    np.testing.assert_array_equal(copy.score(passages[0]), keyword_scorer.score(passages[0]))
    alone = np.concatenate([copy.score([text]) for text in passages[0][:20]])
    np.testing.assert_array_equal(alone, copy.score(passages[0][:20]))


def test_a_model_that_lost_its_keywords_is_refused(keyword_scorer, tmp_path):
    keyword_scorer.save(tmp_path)
    (tmp_path / LEXICON_FILE).write_text('{"topics": {"energy": {}}}')
    with pytest.raises(ModelError, match="weights of shape"):
        BaselineScorer.load(tmp_path, CODEBOOK)
    (tmp_path / LEXICON_FILE).unlink()
    with pytest.raises(ModelError, match="cannot read the lexicon"):
        BaselineScorer.load(tmp_path, CODEBOOK)


def test_a_lexicon_that_is_not_there_is_named(passages, tmp_path):
    missing = SETTINGS.model_copy(update={"lexicon": tmp_path / "none.yaml"})
    with pytest.raises(DataError, match=r"none\.yaml: cannot read the lexicon"):
        fit_baseline(*passages, None, missing)


def test_a_soft_target_counts_as_a_positive_and_a_negative_by_its_share(passages):
    texts, y_true = (part[:60] for part in passages)
    soft = y_true.astype(np.float32)
    soft[:10, 0] = 0.3
    ones, zeros = y_true.copy(), y_true.copy()
    ones[:10, 0], zeros[:10, 0] = 1, 0
    weights = np.ones((70, 2))
    weights[:10, 0], weights[60:, 0], weights[60:, 1] = 0.3, 0.7, 0.0
    settings = SETTINGS.model_copy(update={"min_df": 1})
    by_hand = fit_baseline(
        [*texts, *texts[:10]], np.concatenate([ones, zeros[:10]]), weights, settings
    )
    taught = fit_baseline(texts, soft, None, settings)
    assert taught.intercepts[0] == pytest.approx(by_hand.intercepts[0], abs=0.2)
    logits = taught.score(texts)[:, 0], by_hand.score(texts)[:, 0]
    assert np.corrcoef(*logits)[0, 1] > 0.99
    assert np.isfinite(taught.score(texts)).all()
