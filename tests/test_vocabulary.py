import json

import numpy as np
import pytest
from tiny_encoders import SENTENCES

from relclass.errors import DataError, ModelError
from relclass.models.vocabulary import (
    compare_tokens,
    count_pieces,
    rank_pieces,
    read_texts,
    trim_vocabulary,
)

FOREIGN = "日本語 αβγ ఠఠ"


def load_tokenizer(folder):
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "deberta-v2"])
def test_texts_that_were_counted_are_tokenised_as_before(tiny_encoder, architecture):
    whole = load_tokenizer(tiny_encoder(architecture))
    counts = count_pieces(whole, SENTENCES[:6])
    trimmed = trim_vocabulary(whole.to_str(), counts)
    assert len(trimmed.kept) < whole.get_vocab_size()
    difference = compare_tokens(whole, trimmed, SENTENCES[:6])
    assert (difference.n_texts, difference.n_different, difference.n_unknown) == (6, 0, 0)


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "deberta-v2"])
def test_other_texts_are_counted_as_different(tiny_encoder, architecture):
    whole = load_tokenizer(tiny_encoder(architecture))
    trimmed = trim_vocabulary(whole.to_str(), count_pieces(whole, SENTENCES[:1]))
    assert compare_tokens(whole, trimmed, SENTENCES[6:]).n_different > 0


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "deberta-v2"])
def test_special_tokens_and_letters_stay_however_few_pieces_may(tiny_encoder, architecture):
    from tokenizers import Tokenizer

    whole = load_tokenizer(tiny_encoder(architecture))
    counts = count_pieces(whole, SENTENCES)
    small = Tokenizer.from_str(trim_vocabulary(whole.to_str(), counts, max_pieces=1).tokenizer_json)
    assert small.encode("").tokens == whole.encode("").tokens
    kept = set(small.get_vocab())
    assert {piece for piece in whole.get_vocab() if piece in ("گ", "e", "3", ".", "ж")} <= kept
    assert len(kept) < whole.get_vocab_size()


def test_what_must_stay_stays_however_few_pieces_may(tiny_encoder):
    whole = load_tokenizer(tiny_encoder("bert"))
    rank = count_pieces(whole, SENTENCES).astype(float)
    always = set(trim_vocabulary(whole.to_str(), rank, max_pieces=1).kept.tolist())
    other = max(set(range(len(rank))) - always)
    rank[other] = np.inf
    kept = trim_vocabulary(whole.to_str(), rank, max_pieces=1).kept
    assert set(kept.tolist()) == {*always, other}


def test_new_ids_stand_for_the_old_pieces(tiny_encoder):
    from tokenizers import Tokenizer

    whole = load_tokenizer(tiny_encoder("xlm-roberta"))
    trimmed = trim_vocabulary(whole.to_str(), count_pieces(whole, SENTENCES[:3]))
    small = Tokenizer.from_str(trimmed.tokenizer_json)
    for new, old in enumerate(trimmed.kept.tolist()):
        assert small.id_to_token(new) == whole.id_to_token(old)


def test_the_commonest_pieces_are_kept_first(tiny_encoder):
    whole = load_tokenizer(tiny_encoder("xlm-roberta"))
    counts = np.zeros(whole.get_vocab_size(), dtype=np.int64)
    letters = [i for i in range(len(counts)) if len(whole.id_to_token(i)) > 3]
    counts[letters] = np.arange(len(letters)) + 1
    base = len(trim_vocabulary(whole.to_str(), np.zeros_like(counts)).kept)
    kept = trim_vocabulary(whole.to_str(), counts, max_pieces=base + 5).kept
    assert set(letters[-5:]) <= set(kept.tolist())
    assert len(kept) <= base + 5


def test_merges_are_not_trimmed():
    content = {"model": {"type": "BPE", "vocab": {}, "merges": []}}
    with pytest.raises(ModelError, match="cannot trim a BPE vocabulary"):
        trim_vocabulary(json.dumps(content), np.zeros(0))


def test_texts_are_read_from_lines_records_and_articles(tmp_path):
    plain, records = tmp_path / "a.txt", tmp_path / "b.jsonl"
    plain.write_text("یک\nدو\n", encoding="utf-8")
    lines = [{"text": "three"}, {"id": "x", "passages": [{"text": "four"}, {"text": "five"}]}]
    records.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    assert list(read_texts([plain, records])) == ["یک", "دو", "three", "four", "five"]


def test_blank_lines_and_texts_of_records_are_passed_over(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": " "}\n\n', encoding="utf-8")
    assert list(read_texts([path])) == ["one"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"a\.csv: expected a \.txt or \.jsonl file"),
        ("a.jsonl", '{"text": "x"}\n{', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", "5", r"a\.jsonl:1: expected an object, got int"),
        ("a.jsonl", '{"text": null}', r"a\.jsonl:1: 'text' must be a string, got NoneType"),
        ("a.jsonl", '{"passages": ["x"]}', r"a\.jsonl:1: 'passages' must be a list of objects"),
        ("a.jsonl", '{"passages": [{}]}', r"a\.jsonl:1: 'text' must be a string"),
        ("a.txt", "نفت".encode("cp1256"), r"a\.txt: not UTF-8; save the file as UTF-8"),
        ("missing.txt", None, r"missing\.txt: cannot read: No such file"),
    ],
)
def test_a_corpus_that_cannot_be_read_is_refused(tmp_path, name, content, message):
    if content is not None:
        raw = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=message):
        list(read_texts([tmp_path / name]))


def test_pieces_are_ranked_by_their_use_then_by_the_languages_that_corpora_lack():
    pieces = ["<unk>", "▁گاز", "▁نفت", "▁нефть", "▁və", "gə", "▁the", "▁rare", "▁никто"]
    scores = [0.0, -3, -4, -5, -6, -7, -2, -9, -8]
    content = {
        "model": {"type": "Unigram", "vocab": list(map(list, zip(pieces, scores, strict=True)))}
    }
    corpus = np.array([0, 90, 0, 0, 0, 0, 5, 1, 0])
    texts = np.array([0, 0, 1, 0, 0, 0, 0, 0, 0])
    rank = rank_pieces(json.dumps(content), corpus, texts)
    order = [pieces[place] for place in np.argsort(-rank, kind="stable")]
    # trained on; common, the commoner first; Azerbaijani and Russian, the likelier first; rare
    assert order[:8] == ["▁نفت", "▁گاز", "▁the", "▁və", "gə", "▁нефть", "▁никто", "▁rare"]
    assert rank[0] == 0
