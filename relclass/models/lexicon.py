"""The simplest model: keywords by topic, counted. Needs no training."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from relclass.codebook import Codebook
from relclass.errors import DataError, ModelError
from relclass.models.tfidf import lower

LEXICON_FILE = "lexicon.json"
NO_HIT = -2.0
"""Logit of a passage without a keyword."""
LOGIT_STEP = 0.8
"""Logit for each unit of weight; one strong keyword crosses zero, two weak ones do not."""
STRONG, WEAK = 3, 1
MAX_WEIGHT = 8
"""Weights beyond say no more."""

_GAP = "[\\s\u200c_-]{0,2}"
"""Between the words of a keyword: spaces, half-spaces and hyphens come and go in this press."""
_PREFIXES = {"ar": "(?:[وف]?(?:[بك]?ال|لل|[بلك])?)?"}
_SUFFIXES = {
    "fa": "(?:[\\s\u200c]?(?:ها|های|هایی|هایش|هایشان)|\u200c?(?:ی|ای|اش|ان|شان|اند))?",
    "ar": "(?:ه|ها|هم|نا|ي|ية|ات|ين|ان|ا)?",
}


class Keywords(BaseModel):
    """One topic's keywords, by language.

    Parameters
    ----------
    strong : each different form found counts 3; one is enough.
    weak : each different form found counts 1; three are as good as a strong one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    strong: dict[str, tuple[str, ...]] = {}
    weak: dict[str, tuple[str, ...]] = {}


class Lexicon(BaseModel):
    """Keywords of every topic, and what is no keyword though it looks so.

    A keyword is a word or a few; a space in it stands for a space, a half-space, a hyphen or
    nothing. A star takes any ending: ``pipeline*``, ``железн* дорог*``. Persian and Arabic words
    take their common affixes without one. Case does not matter.

    Parameters
    ----------
    exclude : by language: titles, namesakes and figures of speech, blanked out first.
    topics : topic to keywords.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    exclude: dict[str, tuple[str, ...]] = {}
    topics: dict[str, Keywords]


def load_lexicon(path: str | Path) -> Lexicon:
    """Read a lexicon from YAML (or JSON, which YAML contains).

    Raises
    ------
    DataError
        If the file cannot be read or is not a lexicon.
    """
    try:
        return Lexicon.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: cannot read the lexicon: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise DataError(f"{path}: not a lexicon: {place}: {problem['msg']}") from error


@dataclass(frozen=True)
class LexiconScorer:
    """Counts the different forms of each topic's keywords in a passage.

    Parameters
    ----------
    lexicon : has each of the topics.
    topics : names in column order.
    """

    lexicon: Lexicon
    topics: tuple[str, ...]
    kind: str = "lexicon"
    _exclude: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _strong: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)
    _weak: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        missing = [topic for topic in self.topics if topic not in self.lexicon.topics]
        if missing:
            raise ValueError(
                f"The lexicon has no keywords for {missing}: it has {list(self.lexicon.topics)}."
            )
        keywords = [self.lexicon.topics[topic] for topic in self.topics]
        object.__setattr__(self, "_exclude", compile_keywords(self.lexicon.exclude))
        object.__setattr__(self, "_strong", tuple(compile_keywords(k.strong) for k in keywords))
        object.__setattr__(self, "_weak", tuple(compile_keywords(k.weak) for k in keywords))

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits, shape (n_passages, n_topics), float32: -2 without a keyword."""
        strong, weak = np.split(self.count(texts), 2, axis=1)
        weight = np.minimum(STRONG * strong + WEAK * weak, MAX_WEIGHT)
        return np.asarray(NO_HIT + LOGIT_STEP * weight, dtype=np.float32)

    def count(self, texts: Sequence[str]) -> np.ndarray:
        """Count the different forms in which each topic's keywords stand there.

        A keyword twice in one form counts once; with and without an affix, or spaced in two ways,
        it counts twice.

        Returns
        -------
        Shape (n_passages, 2 * n_topics), float32: the strong ones by topic, then the weak ones.
        """
        counts = np.zeros((len(texts), 2 * len(self.topics)), dtype=np.float32)
        for row, text in enumerate(texts):
            text = self._blank(text)
            for column in range(len(self.topics)):
                strong, weak = self._hits(text, column)
                counts[row, column] = len(strong)
                counts[row, len(self.topics) + column] = len(weak)
        return counts

    def explain(self, text: str) -> dict[str, list[str]]:
        """Name the keywords found in a passage, as they stand there, by topic."""
        return {
            topic: sorted({*strong, *weak})
            for topic, (strong, weak) in zip(self.topics, self.hits(text), strict=True)
        }

    def hits(self, text: str) -> list[tuple[set[str], set[str]]]:
        """Return the strong and the weak keywords, as they stand in a passage, for each topic."""
        text = self._blank(text)
        return [self._hits(text, column) for column in range(len(self.topics))]

    def _blank(self, text: str) -> str:
        return self._exclude.sub(" ¦ ", lower(text))

    def _hits(self, text: str, column: int) -> tuple[set[str], set[str]]:
        strong = set(self._strong[column].findall(text))
        return strong, set(self._weak[column].findall(text)) - strong

    def save(self, model_dir: Path) -> None:
        """Write the lexicon as JSON."""
        content = json.dumps(self.lexicon.model_dump(mode="json"), ensure_ascii=False, indent=1)
        (model_dir / LEXICON_FILE).write_text(content + "\n", encoding="utf-8")

    @classmethod
    def load(cls, model_dir: Path, codebook: Codebook) -> LexiconScorer:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If the file is missing, or is not a lexicon of the codebook's topics.
        """
        try:
            return cls(load_lexicon(model_dir / LEXICON_FILE), codebook.names)
        except ValueError as error:
            raise ModelError(f"{model_dir}: {error}") from error


# --- keywords -> one pattern ---

_END = "\0"


def compile_keywords(keywords: Mapping[str, Iterable[str]]) -> re.Pattern[str]:
    """Compile keywords to one pattern whose time grows with the text alone.

    Parameters
    ----------
    keywords : by language; matched with lower-case text.

    Returns
    -------
    A pattern that starts at the beginning of a word. Words that begin alike share a branch
    (a trie), so that each word of the text is compared with few of them.
    """
    tries: dict[tuple[str, str], dict[str, Any]] = {}
    for language, words in keywords.items():
        affixes = _PREFIXES.get(language, ""), _SUFFIXES.get(language, "")
        for word in words:
            _add(tries.setdefault(affixes, {}), lower(word.strip()))
    branches = [
        f"{prefix}{_to_pattern(trie)}{suffix}(?![\\w\u200c])"
        for (prefix, suffix), trie in tries.items()
    ]
    return re.compile(rf"(?<!\w)(?:{'|'.join(branches)})" if branches else r"(?!)")


def _add(trie: dict[str, Any], word: str) -> None:
    for char in word:
        piece = {" ": _GAP, "\u200c": _GAP, "*": r"\w*"}.get(char, re.escape(char))
        trie = trie.setdefault(piece, {})
    trie[_END] = {}


def _to_pattern(trie: dict[str, Any]) -> str:
    options = [piece + _to_pattern(rest) for piece, rest in sorted(trie.items()) if piece != _END]
    if _END in trie:
        options.append("")
    return options[0] if len(options) == 1 else f"(?:{'|'.join(options)})"
