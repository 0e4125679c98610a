"""Which split each labelled passage is in: a file that every run shares and that only grows.

A passage that has a split keeps it for good; new passages are placed around it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relclass.errors import DataError
from relclass.records import LabelledPassage
from relclass.splits import SPLITS, find_near_duplicates, group_passages, split_groups

logger = logging.getLogger(__name__)

REMAKE = (
    "run: relclass data split with the same --authored, --real-labels, --real-texts, --codebook "
    "and --splits (it keeps every assignment made before; data of your own take a file of their "
    "own: --splits own/splits.json)"
)


@dataclass(frozen=True)
class Splits:
    """The content of a splits file.

    Parameters
    ----------
    version : 1 at first, one more each time passages were added.
    seed, shares : those it was made with.
    checksum : origin to checksum of its passages' ids and texts.
    articles : article to split, for authored passages.
    passages : passage to split, for real ones.
    """

    version: int
    seed: int
    shares: tuple[float, ...]
    checksum: Mapping[str, str]
    articles: Mapping[str, str]
    passages: Mapping[str, str]

    def split_of(self, passage: LabelledPassage) -> str | None:
        """Return the passage's split, or None if it has none yet."""
        if passage.origin == "real":
            return self.passages.get(passage.passage_id)
        return self.articles.get(passage.article_id)


EMPTY = Splits(version=0, seed=0, shares=(0.7, 0.15, 0.15), checksum={}, articles={}, passages={})


def text_hash(text: str) -> str:
    """Return the first 12 hexadecimal digits of the SHA-1 of a text, the id of a real passage."""
    return hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()[:12]


def splits_checksum(hashes: Iterable[tuple[str, str]]) -> str:
    """Return a checksum of passages that does not depend on their order.

    Parameters
    ----------
    hashes : (passage_id, text_hash of its text).
    """
    lines = sorted(f"{passage_id} {digest}" for passage_id, digest in hashes)
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()[:16]


def read_splits(path: str | Path) -> Splits:
    """Read a splits file.

    Raises
    ------
    DataError
        If there is none, or it is not a splits file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        splits = Splits(**{**content, "shares": tuple(content["shares"])})
        values = set(splits.articles.values()) | set(splits.passages.values())
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no splits file; {REMAKE}") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: not a splits file ({error}); restore it, or take it away and {REMAKE}"
        ) from error
    if values - set(SPLITS):
        raise DataError(f"{path}: expected {', '.join(SPLITS)}, got {sorted(values - set(SPLITS))}")
    return splits


def write_splits(splits: Splits, path: str | Path) -> None:
    """Write a splits file, an article or passage a line, so that a diff shows what was added."""
    content = {
        "version": splits.version,
        "seed": splits.seed,
        "shares": list(splits.shares),
        "checksum": dict(splits.checksum),
        "articles": dict(splits.articles),
        "passages": dict(splits.passages),
    }
    text = json.dumps(content, ensure_ascii=False, indent=1)
    Path(path).write_text(text + "\n", encoding="utf-8")


def extend_splits(
    passages: Sequence[LabelledPassage],
    old: Splits = EMPTY,
    *,
    near_duplicates: Sequence[tuple[int, int]] | None = None,
    new_to_train: bool = False,
) -> Splits:
    """Give a split to every passage that has none, and leave the others where they are.

    A new passage goes to the split of its article, or else of the passages that its article
    nearly repeats; the rest are dealt out in groups, so that each split comes as near as it can
    to its share of every origin, language and topic. Where a passage links two splits, a
    warning names it.

    Parameters
    ----------
    passages : all of them, old and new; an old one that is absent is forgotten.
    old : what was decided before.
    near_duplicates : pairs of positions in `passages`; None finds them.
    new_to_train : deal out no new passage to validation or test, so that figures stay comparable.

    Returns
    -------
    The new content, of the next version; `old` itself if nothing was added, removed or changed.
    """
    if near_duplicates is None:
        near_duplicates = find_near_duplicates([passage.text for passage in passages])
    fixed = _keep_old(passages, old)
    groups = _new_groups(passages, fixed, near_duplicates)
    _follow_near_duplicates(fixed, groups, near_duplicates)
    if new_to_train:
        fixed[fixed < 0] = SPLITS.index("train")
    split = split_groups(
        groups,
        [_strata(passage) for passage in passages],
        shares=old.shares,
        seed=old.seed,
        fixed=fixed,
    )
    names = [SPLITS[number] for number in split]
    _warn_of_leaks(passages, names, near_duplicates)
    new = _next_version(passages, names, old)
    unchanged = (new.checksum, new.articles, new.passages) == (
        old.checksum, old.articles, old.passages,
    )  # fmt: skip
    return old if unchanged else new


def _next_version(passages: Sequence[LabelledPassage], names: Sequence[str], old: Splits) -> Splits:
    placed = list(zip(passages, names, strict=True))
    by_origin: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for passage in passages:
        by_origin[passage.origin].append((passage.passage_id, text_hash(passage.text)))
    return Splits(
        version=old.version + 1,
        seed=old.seed,
        shares=old.shares,
        checksum={origin: splits_checksum(by_origin[origin]) for origin in sorted(by_origin)},
        articles={p.article_id: name for p, name in placed if p.origin != "real"},
        passages={p.passage_id: name for p, name in placed if p.origin == "real"},
    )


def _keep_old(passages: Sequence[LabelledPassage], old: Splits) -> np.ndarray:
    """Return the split of each passage that has one or whose article has one, else -1."""
    known = [old.split_of(passage) for passage in passages]
    of_article = {
        (passage.origin, passage.article_id): name
        for passage, name in zip(passages, known, strict=True)
        if name
    }
    names = (
        name or of_article.get((passage.origin, passage.article_id))
        for passage, name in zip(passages, known, strict=True)
    )
    return np.array([SPLITS.index(name) if name else -1 for name in names], dtype=np.int64)


def _new_groups(
    passages: Sequence[LabelledPassage],
    fixed: np.ndarray,
    near_duplicates: Sequence[tuple[int, int]],
) -> np.ndarray:
    """Group the passages still without a split; each of the others is a group of its own."""
    keys = [
        (p.origin, p.article_id) if split < 0 else (p.origin, p.article_id, position)
        for position, (p, split) in enumerate(zip(passages, fixed, strict=True))
    ]
    new = [(i, j) for i, j in near_duplicates if fixed[i] < 0 and fixed[j] < 0]
    return group_passages(keys, new)


def _follow_near_duplicates(
    fixed: np.ndarray, groups: np.ndarray, near_duplicates: Sequence[tuple[int, int]]
) -> None:
    """Mark in `fixed` the split of each new group that nearly repeats placed passages."""
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    for left, right in near_duplicates:
        for new, other in ((left, right), (right, left)):
            if fixed[new] < 0 <= fixed[other]:
                votes[groups[new]][fixed[other]] += 1
    for group, count in votes.items():
        fixed[groups == group] = max(count, key=lambda split: (count[split], split))


def _warn_of_leaks(
    passages: Sequence[LabelledPassage],
    names: Sequence[str],
    near_duplicates: Sequence[tuple[int, int]],
) -> None:
    """Name passages that nearly repeat each other and whose articles hold them apart."""
    for pair in near_duplicates:
        if names[pair[0]] != names[pair[1]]:
            one, two = (f"{passages[i].passage_id!r} ({names[i]})" for i in pair)
            logger.warning(
                "%s and %s nearly repeat each other but belong to articles of two splits; take "
                "one of them out of the data",
                one,
                two,
            )


def _strata(passage: LabelledPassage) -> list[str]:
    language = passage.language
    if language == "az" and _is_arabic_script(passage.text):
        language = "azb"
    place = f"{passage.origin}/{language}"
    by_language = [f"{place}/{topic}" for topic in passage.topics]
    return [place, *by_language, *(f"{passage.origin}/{topic}" for topic in passage.topics)]


def _is_arabic_script(text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    arabic = sum(unicodedata.name(letter, "").startswith("ARABIC") for letter in letters)
    return 2 * arabic > len(letters)
