"""Trim a tokenizer to the pieces that the served languages use, and renumber the rest.

Most of a multilingual model is the embeddings of pieces that its readers never meet (Abdaoui et
al. 2020, https://arxiv.org/abs/2010.05609).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from relclass.errors import DataError, ModelError
from relclass.labelled import check_text, read_json_lines

TRIMMABLE = ("Unigram", "WordPiece")
_SCRIPTS = ("ARABIC", "LATIN", "CYRILLIC", "DIGIT")
_BATCH = 2000
_DIGITS = 6
MIN_COUNT = 5
"""Uses in the corpus from which a piece counts as common."""
_RUSSIAN = re.compile("^▁?(?:##)?[а-яё]+$", re.IGNORECASE)
_AZERBAIJANI = re.compile("^▁?(?:##)?(?=.*[əğşı])[a-zçğıöşüə]+$", re.IGNORECASE)


@dataclass(frozen=True)
class TrimmedVocabulary:
    """A tokenizer with fewer pieces.

    Parameters
    ----------
    tokenizer_json : of the library tokenizers.
    kept : shape (n_kept,), the old id of each new one, ascending.
    """

    tokenizer_json: str
    kept: np.ndarray


def read_texts(paths: Iterable[Path]) -> Iterator[str]:
    """Yield texts: the lines of a .txt file, the "text" (or "passages") of a .jsonl record.

    Raises
    ------
    DataError
        If a file cannot be read, is of another kind, not UTF-8, or a record is not JSON or has
        a text that is none. Blank texts of records are passed over.
    """
    for path in paths:
        if path.suffix == ".jsonl":
            for place, record in read_json_lines(path):
                yield from _texts_of(record, place)
        elif path.suffix == ".txt":
            yield from _read_lines(path)
        else:
            raise DataError(f"{path}: expected a .txt or .jsonl file of texts")


def _read_lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8; save the file as UTF-8") from error


def _texts_of(record: Mapping[str, Any], place: str) -> Iterator[str]:
    passages = record.get("passages", [])
    if not isinstance(passages, list) or not all(isinstance(p, dict) for p in passages):
        raise DataError(f"{place}: 'passages' must be a list of objects with a 'text'")
    for holder in ([record] if "text" in record else []) + passages:
        text = holder.get("text")
        if not isinstance(text, str) or text.strip():
            yield check_text(text, where=place)


def count_pieces(tokenizer: Any, texts: Iterable[str]) -> np.ndarray:
    """Count how often each piece is used.

    Parameters
    ----------
    tokenizer : `tokenizers.Tokenizer`.

    Returns
    -------
    Shape (n_pieces,), int64, by id.
    """
    counts = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    iterator = iter(texts)
    while batch := list(islice(iterator, _BATCH)):
        for encoding in tokenizer.encode_batch_fast(batch):
            ids, times = np.unique(encoding.ids, return_counts=True)
            counts[ids] += times
    return counts


def rank_pieces(tokenizer_json: str, corpus: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Say how much each piece is worth keeping.

    First those of the texts that the model was trained on; then those common in the corpus; then
    those in letters of Azerbaijani and of Russian, of which corpora of news at hand have little,
    the likelier ones first; then those rare in the corpus.

    Parameters
    ----------
    corpus, texts : counts by id, as `count_pieces` gives.

    Returns
    -------
    Shape (n_pieces,), float64; 0 for pieces without any claim.
    """
    content = json.loads(tokenizer_json)
    pieces, vocab = _pieces(content), content["model"]["vocab"]
    n_pieces = len(pieces)
    rank = corpus[:n_pieces].astype(np.float64)
    if isinstance(vocab, list):  # log-probabilities; WordPiece lists the likelier pieces first
        likely = np.array([score for _, score in vocab] + [0.0] * (n_pieces - len(vocab)))
    else:
        likely = -np.arange(n_pieces, dtype=np.float64)
    order = likely.argsort().argsort() + 1.0  # 1 for the least likely
    for pattern, claim in ((_RUSSIAN, 1e9), (_AZERBAIJANI, 2e9)):
        matches = np.array([bool(pattern.search(piece)) for piece in pieces])
        rank[matches] = claim + order[matches]
    common = corpus[:n_pieces] >= MIN_COUNT
    rank[common] = 3e9 + corpus[:n_pieces][common]
    trained = texts[:n_pieces] > 0
    rank[trained] = 1e12 + texts[:n_pieces][trained]
    return rank


def trim_vocabulary(
    tokenizer_json: str, rank: np.ndarray, *, max_pieces: int | None = None
) -> TrimmedVocabulary:
    """Keep the pieces worth keeping, single characters of the served scripts, special tokens.

    Parameters
    ----------
    tokenizer_json : of the library tokenizers, Unigram or WordPiece.
    rank : shape (n_pieces,), counts or what `rank_pieces` gives; infinite for what must stay. A
        text whose pieces are all kept is tokenised as before: removing a piece changes only texts
        whose best path used it.
    max_pieces : keep at most so many, the highest ranks first; what must stay, characters and
        special tokens do.

    Raises
    ------
    ModelError
        If the tokenizer is of another kind: merges of BPE depend on each other.
    """
    content = json.loads(tokenizer_json)
    kind = content["model"].get("type")
    if kind not in TRIMMABLE:
        raise ModelError(f"cannot trim a {kind} vocabulary, only {' or '.join(TRIMMABLE)}")
    pieces = _pieces(content)
    wanted = np.array(rank[: len(pieces)], dtype=np.float64)
    wanted[list(_always_kept(content, pieces))] = np.inf
    n_always = int(np.isinf(wanted).sum())
    limit = len(pieces) if max_pieces is None else max(max_pieces, n_always)
    highest = np.argsort(-wanted, kind="stable")[:limit]
    kept = np.sort(highest[wanted[highest] > 0])
    _renumber(content, pieces, kept)
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return TrimmedVocabulary(text, kept)


def _pieces(content: dict[str, Any]) -> list[str]:
    """List the pieces by id; special tokens that the model's own list lacks come after it."""
    vocab = content["model"]["vocab"]
    by_id = {token["id"]: token["content"] for token in content.get("added_tokens", ())}
    if isinstance(vocab, dict):
        by_id |= {index: piece for piece, index in vocab.items()}
    else:
        by_id |= {index: piece for index, (piece, _) in enumerate(vocab)}
    return [by_id[index] for index in sorted(by_id)]


def _always_kept(content: dict[str, Any], pieces: list[str]) -> set[int]:
    ids = {piece: index for index, piece in enumerate(pieces)}
    special = {token["content"] for token in content.get("added_tokens", ())}
    always = {index for piece, index in ids.items() if piece in special or _is_served(piece)}
    vocab = content["model"]["vocab"]
    if isinstance(vocab, list):
        always.add(content["model"]["unk_id"])
        # the unknown token's score follows from the lowest one, so that piece stays as well
        always.add(min(range(len(vocab)), key=lambda index: vocab[index][1]))
    else:
        always.add(ids[content["model"]["unk_token"]])
    return always


def _is_served(piece: str) -> bool:
    character = piece.lstrip("▁").removeprefix("##") or piece
    if len(character) != 1:
        return False
    if unicodedata.category(character)[0] in "PSZ":
        return ord(character) < 0x3000  # not CJK's own punctuation
    return unicodedata.name(character, "").startswith(_SCRIPTS)


def _renumber(content: dict[str, Any], pieces: list[str], kept: np.ndarray) -> None:
    model = content["model"]
    new_ids = {pieces[old]: new for new, old in enumerate(kept.tolist())}
    if isinstance(model["vocab"], dict):
        model["vocab"] = {p: new for p, new in new_ids.items() if p in model["vocab"]}
    else:
        unknown, vocab = pieces[model["unk_id"]], model["vocab"]
        # they were float32 once: more digits are noise that is a fifth of the file
        rounded = [[piece, round(score, _DIGITS)] for piece, score in vocab]
        model["vocab"] = [rounded[old] for old in kept.tolist() if old < len(vocab)]
        model["unk_id"] = new_ids[unknown]
    for token in content.get("added_tokens", ()):
        token["id"] = new_ids[token["content"]]
    _renumber_processor(content.get("post_processor"), new_ids)


def _renumber_processor(processor: dict[str, Any] | None, new_ids: dict[str, int]) -> None:
    if processor is None:
        return
    for token in processor.get("special_tokens", {}).values():  # TemplateProcessing
        token["ids"] = [new_ids[piece] for piece in token["tokens"]]
    for name in ("sep", "cls"):  # BertProcessing, RobertaProcessing
        if name in processor:
            processor[name][1] = new_ids[processor[name][0]]
    for inner in processor.get("processors", ()):  # Sequence
        _renumber_processor(inner, new_ids)


@dataclass(frozen=True)
class TokenDifference:
    """How far a trimmed tokenizer agrees with the whole one on some texts.

    Parameters
    ----------
    n_different : texts whose pieces differ.
    n_unknown : texts that gained an unknown piece.
    """

    n_texts: int
    n_different: int
    n_unknown: int


def compare_tokens(whole: Any, trimmed: TrimmedVocabulary, texts: list[str]) -> TokenDifference:
    """Tokenise texts with both and count where they part.

    Parameters
    ----------
    whole : `tokenizers.Tokenizer` with every piece.
    """
    from tokenizers import Tokenizer

    small = Tokenizer.from_str(trimmed.tokenizer_json)
    unknown = next((i for i in map(small.token_to_id, ("<unk>", "[UNK]")) if i is not None), -1)
    n_different = n_unknown = 0
    for old, new in zip(whole.encode_batch(texts), small.encode_batch(texts), strict=True):
        as_before = trimmed.kept[new.ids].tolist()
        n_different += as_before != old.ids
        n_unknown += new.ids.count(unknown) > old.ids.count(int(trimmed.kept[unknown]))
    return TokenDifference(len(texts), n_different, n_unknown)
