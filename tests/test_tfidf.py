import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relclass.models.tfidf import (
    MAX_TOKEN_CHARS,
    TfidfBlock,
    char_ngrams,
    fit_block,
    tokenize,
    word_ngrams,
)

TEXTS = [
    "خط لوله گاز از مرز می‌گذرد",
    "گاز و برق، برق و گاز؛ ۲۰۲۳-cü il",
    "The gas pipeline crosses the border",
    "Qaz kəməri sərhəddən keçir",
    "الغاز يعبر الحدود عبر الأنابيب",
    "",
    "a",
]


def make_block(passages, unit, ngrams, min_df=1):
    return fit_block(passages, unit=unit, ngrams=ngrams, max_features=10_000, min_df=min_df)


def test_tokens_keep_marks_and_half_spaces_and_leave_punctuation():
    text = "رسماً می‌رود، «قره‌باغ» 2023-cü İRAN: www.a.ir"
    assert tokenize(text) == [
        "رسماً", "می\u200cرود", "قره\u200cباغ", "2023", "cü", "iran", "www", "a", "ir",
    ]  # fmt: skip


def test_a_run_without_a_break_is_cut():
    assert tokenize("آ" * 100_000) == ["آ" * MAX_TOKEN_CHARS]


def test_ngrams_are_right_by_hand():
    assert list(word_ngrams(["a", "b", "c"], (1, 2))) == ["a", "b", "c", "a b", "b c"]
    assert list(word_ngrams(["a", "b", "c"], (3, 4))) == ["a b c"]
    assert list(word_ngrams([], (1, 2))) == []
    assert list(char_ngrams("abc", (2, 3))) == [" a", "ab", "bc", "c ", " ab", "abc", "bc "]
    assert list(char_ngrams("a", (2, 5))) == [" a", "a ", " a "]  # shorter than 4: once, whole


@pytest.mark.parametrize(
    ("unit", "analyzer", "ngrams"),
    [("word", "word", (1, 2)), ("word", "word", (2, 3)), ("char", "char_wb", (2, 5))],
)
@pytest.mark.parametrize("min_df", [1, 2])
def test_features_are_those_of_scikit_learn(unit, analyzer, ngrams, min_df):
    from sklearn.feature_extraction.text import TfidfVectorizer

    passages = [tokenize(text) for text in TEXTS * 2 + ["gaz gaz gaz yeni", "yeni gaz"]]
    joined = [" ".join(tokens) for tokens in passages]
    reference = TfidfVectorizer(
        analyzer=analyzer,
        ngram_range=ngrams,
        min_df=min_df,
        sublinear_tf=True,
        lowercase=False,
        token_pattern=r"\S+" if analyzer == "word" else None,
    )
    expected = reference.fit_transform(joined).toarray()
    block = make_block(passages, unit, ngrams, min_df)
    assert list(block.terms) == reference.get_feature_names_out().tolist()
    np.testing.assert_allclose(block.idf, reference.idf_, rtol=1e-6)
    np.testing.assert_allclose(block.transform(passages).toarray(), expected, atol=1e-6)


@pytest.mark.parametrize("unit", ["word", "char"])
def test_a_row_does_not_depend_on_its_neighbours(unit):
    passages = [tokenize(text) for text in TEXTS]
    block = make_block(passages, unit, (1, 3))
    together = block.transform(passages).toarray()
    alone = [block.transform([tokens]).toarray()[0] for tokens in passages]
    np.testing.assert_array_equal(together, alone)


def test_the_most_frequent_ngrams_are_kept_and_ties_go_by_code_point():
    passages = [["b", "c"], ["a", "c"], ["c"]]
    block = fit_block(passages, unit="word", ngrams=(1, 1), max_features=2, min_df=1)
    assert block.terms == ("a", "c")


def test_unknown_words_and_no_words_give_empty_rows():
    block = make_block([["gas"]], "word", (1, 1))
    features = block.transform([["wind"], [], ["gas"]])
    assert features.toarray().tolist() == [[0.0], [0.0], [1.0]]
    assert block.transform([]).shape == (0, 1)


def test_a_full_cache_changes_no_number(monkeypatch):
    passages = [tokenize(text) for text in TEXTS]
    block = make_block(passages, "char", (2, 4))
    expected = block.transform(passages).toarray()
    monkeypatch.setattr("relclass.models.tfidf._CACHE_SIZE", 2)
    small = TfidfBlock(block.unit, block.ngrams, block.terms, block.idf)
    np.testing.assert_array_equal(small.transform(passages).toarray(), expected)
    assert len(small._cache) <= 2


@given(st.lists(st.sampled_from(["gaz", "neft", "a", "برق", "yeni"]), max_size=8))
@settings(max_examples=60, deadline=None)
def test_occurrences_count_what_transform_counts(tokens):
    for unit, ngrams in (("word", (1, 2)), ("char", (2, 4))):
        block = make_block([["gaz", "neft"], ["برق", "gaz"]], unit, ngrams)
        owners, columns, shares = block.occurrences(tokens)
        counts = np.bincount(columns, weights=shares, minlength=len(block.terms))
        row = block.transform([tokens]).toarray()[0]
        assert ((counts > 0) == (row > 0)).all()
        np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)
        assert len(owners) == 0 or owners.max() < len(tokens)
