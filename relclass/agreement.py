"""Label files of two or more annotators -> how far they agree, and where they do not.

Krippendorff's alpha is written from Krippendorff 2011, "Computing Krippendorff's
Alpha-Reliability" (https://repository.upenn.edu/asc_papers/43), the distance between label sets
from Passonneau 2006, "Measuring Agreement on Set-valued Items (MASI) for Semantic and Pragmatic
Annotation" (https://aclanthology.org/L06-1392/).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from relclass.codebook import Codebook
from relclass.errors import DataError
from relclass.records import LabelledPassage

Value = TypeVar("Value", bound=Hashable)


@dataclass(frozen=True)
class PairAgreement:
    """Two annotators side by side.

    Parameters
    ----------
    n_passages : those that both labelled.
    exact_match : share of passages with the same set of topics, in [0, 1].
    kappa : topic to Cohen's kappa, <= 1, or None where neither ever used it or both always did.
    f1 : topic to F1 of the one against the other (it is symmetric), in [0, 1], or None where
        neither ever used it.
    """

    annotators: tuple[str, str]
    n_passages: int
    exact_match: float
    kappa: Mapping[str, float | None]
    f1: Mapping[str, float | None]


@dataclass(frozen=True)
class Disagreement:
    """A passage on which annotators differ.

    Parameters
    ----------
    topics : annotator to the topics given.
    disputed : topics given by some and not by others.
    """

    passage_id: str
    language: str
    text: str
    topics: Mapping[str, tuple[str, ...]]
    disputed: tuple[str, ...]


@dataclass(frozen=True)
class Agreement:
    """How far annotators agree.

    Parameters
    ----------
    n_passages : passages that two or more of them labelled.
    n_unpaired : annotator to passages that no other labelled, and which count for nothing.
    alpha : topic to Krippendorff's nominal alpha, <= 1; None where it is undefined, because
        all labels are the same.
    alpha_masi : alpha over whole sets of topics with the MASI distance; None as above.
    """

    annotators: tuple[str, ...]
    n_passages: int
    n_unpaired: Mapping[str, int]
    alpha: Mapping[str, float | None]
    alpha_masi: float | None
    pairs: tuple[PairAgreement, ...]
    disagreements: tuple[Disagreement, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values; what is undefined is null."""
        return asdict(self)


def nominal_distance(left: Hashable, right: Hashable) -> float:
    """Return 0 for equal values and 1 for others."""
    return float(left != right)


def masi_distance(left: AbstractSet[str], right: AbstractSet[str]) -> float:
    """Return how far two sets are apart, in [0, 1] (Passonneau 2006).

    One minus the product of their Jaccard similarity and of 1, 2/3, 1/3 or 0 for equal sets,
    one within the other, overlapping, disjoint. The paper has no empty sets: here two empty
    sets are equal (0), and an empty set is wholly apart from any other (1).
    """
    if left == right:
        return 0.0
    common, union = left & right, left | right
    if not common:
        return 1.0
    monotonicity = 2 / 3 if left <= right or right <= left else 1 / 3
    return 1.0 - monotonicity * len(common) / len(union)


def krippendorff_alpha(
    units: Sequence[Sequence[Value]], distance: Callable[[Value, Value], float]
) -> float | None:
    """Return Krippendorff's alpha: 1 minus observed over expected disagreement.

    Parameters
    ----------
    units : the values given to each unit, in any order; annotators may be missing. Units with
        fewer than two values count for nothing.
    distance : between two values, 0 for equal ones, symmetric; the paper's metric difference
        (which it writes squared).

    Returns
    -------
    At most 1; 0 is chance. None if no unit has two values, or all values are the same.
    """
    pairable = [unit for unit in units if len(unit) > 1]
    total: Counter[Value] = Counter(value for unit in pairable for value in unit)
    values = list(total)
    column = {value: position for position, value in enumerate(values)}
    n = total.total()
    distances = np.array([[distance(a, b) for b in values] for a in values])
    coincidences = np.zeros((len(values), len(values)))
    for unit in pairable:
        for left, right in itertools.permutations(unit, 2):
            coincidences[column[left], column[right]] += 1 / (len(unit) - 1)
    marginals = np.array([total[value] for value in values], dtype=float)
    by_chance = np.outer(marginals, marginals) - np.diag(marginals)
    expected = float((by_chance * distances).sum()) / (n - 1) if n > 1 else 0.0
    if expected == 0:
        return None
    return 1.0 - float((coincidences * distances).sum()) / expected


def measure_agreement(
    label_files: Mapping[str, Sequence[LabelledPassage]], codebook: Codebook
) -> Agreement:
    """Compare the labels that annotators gave to the same passages.

    Parameters
    ----------
    label_files : annotator to labelled passages; matched by passage_id. A file may lack
        passages that another has.

    Raises
    ------
    ValueError
        If there are fewer than two annotators.
    DataError
        If no passage was labelled twice, or a passage's text differs between files.
    """
    if len(label_files) < 2:
        raise ValueError(f"Got {len(label_files)} label file(s) but expected two or more.")
    labels = {name: {p.passage_id: p for p in rows} for name, rows in label_files.items()}
    given = Counter(passage_id for rows in labels.values() for passage_id in rows)
    shared = [passage_id for passage_id, count in given.items() if count > 1]
    if not shared:
        raise DataError(
            f"{', '.join(labels)}: no passage_id is in two of the files; the annotators must "
            "label the same passages under the same ids"
        )
    by_unit = [[rows[i] for rows in labels.values() if i in rows] for i in shared]
    _check_texts(by_unit)
    sets = [[frozenset(passage.topics) for passage in unit] for unit in by_unit]
    return Agreement(
        annotators=tuple(labels),
        n_passages=len(shared),
        n_unpaired={name: sum(given[i] == 1 for i in rows) for name, rows in labels.items()},
        alpha={
            topic: krippendorff_alpha(
                [[topic in topics for topics in unit] for unit in sets], nominal_distance
            )
            for topic in codebook.names
        },
        alpha_masi=krippendorff_alpha(sets, masi_distance),
        pairs=tuple(
            _compare_pair(pair, labels[pair[0]], labels[pair[1]], codebook)
            for pair in itertools.combinations(labels, 2)
            if labels[pair[0]].keys() & labels[pair[1]].keys()
        ),
        disagreements=tuple(_disagreements(shared, labels, codebook)),
    )


def cohen_kappa(left: np.ndarray, right: np.ndarray) -> float | None:
    """Return Cohen's kappa of two 0/1 columns, or None where chance alone agrees wholly.

    Parameters
    ----------
    left, right : shape (n_passages,), 0 or 1.
    """
    if len({*left.tolist(), *right.tolist()}) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(left, right))


def _compare_pair(
    annotators: tuple[str, str],
    left: Mapping[str, LabelledPassage],
    right: Mapping[str, LabelledPassage],
    codebook: Codebook,
) -> PairAgreement:
    common = [passage_id for passage_id in left if passage_id in right]
    columns = [
        np.array([[topic in rows[i].topics for topic in codebook.names] for i in common], dtype=int)
        for rows in (left, right)
    ]
    one, two = columns
    both, either = (one & two).sum(axis=0), one.sum(axis=0) + two.sum(axis=0)
    return PairAgreement(
        annotators=annotators,
        n_passages=len(common),
        exact_match=float((one == two).all(axis=1).mean()),
        kappa={t: cohen_kappa(one[:, k], two[:, k]) for k, t in enumerate(codebook.names)},
        f1={
            topic: float(2 * both[k] / either[k]) if either[k] else None
            for k, topic in enumerate(codebook.names)
        },
    )


def _check_texts(units: Sequence[Sequence[LabelledPassage]]) -> None:
    for unit in units:
        if len({" ".join(passage.text.split()) for passage in unit}) > 1:
            raise DataError(
                f"passage {unit[0].passage_id!r} has another text in another file; the "
                "annotators must have labelled the same passages"
            )


def _disagreements(
    shared: Sequence[str],
    labels: Mapping[str, Mapping[str, LabelledPassage]],
    codebook: Codebook,
) -> list[Disagreement]:
    found = []
    for passage_id in shared:
        rows = {name: row[passage_id] for name, row in labels.items() if passage_id in row}
        topics = {name: passage.topics for name, passage in rows.items()}
        counts = Counter(topic for given in topics.values() for topic in given)
        disputed = tuple(t for t in codebook.names if 0 < counts[t] < len(rows))
        if disputed:
            first = next(iter(rows.values()))
            found.append(Disagreement(passage_id, first.language, first.text, topics, disputed))
    return found
