"""Several models, their logits weighed topic by topic (stacking, Wolpert 1992).

https://doi.org/10.1016/S0893-6080(05)80023-1. What a keyword says for certain and what an
encoder reads between the lines are different evidence; a few weights, fitted on passages that
no member was trained on, say how far to trust each for each topic.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relclass.codebook import Codebook
from relclass.errors import ModelError
from relclass.language import detect_languages
from relclass.models.base import Classifier

WEIGHTS_FILE = "ensemble.json"
MEMBERS_DIR = "members"


@dataclass(frozen=True)
class EnsembleScorer:
    """A weighted sum of its members' logits.

    Parameters
    ----------
    members : models over the same topics in the same order; each normalises for itself.
    weights : shape (n_members, n_topics), float64.
    intercepts : shape (n_topics,), float64.
    """

    members: tuple[Classifier, ...]
    weights: np.ndarray
    intercepts: np.ndarray
    kind: str = "ensemble"

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits, shape (n_passages, n_topics), float32; languages are detected."""
        return self.score_languages(texts, detect_languages(texts))

    def score_languages(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Return logits of passages whose languages are known, as `score` does."""
        return self.combine(member_logits(self.members, texts, languages))

    def combine(self, logits: np.ndarray) -> np.ndarray:
        """Weigh the members' logits.

        Parameters
        ----------
        logits : shape (n_members, n_passages, n_topics).

        Returns
        -------
        Shape (n_passages, n_topics), float32.
        """
        weighed: np.ndarray = np.einsum("mpt,mt->pt", logits, self.weights) + self.intercepts
        return weighed.astype(np.float32)

    def save(self, model_dir: Path) -> None:
        """Write each member as a model folder of its own, and the weights as JSON."""
        from relclass.models.store import save_model

        for member in self.members:
            save_model(member, model_dir / MEMBERS_DIR / member.name)
        content = {
            "members": [member.name for member in self.members],
            "weights": self.weights.tolist(),
            "intercepts": self.intercepts.tolist(),
        }
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        (model_dir / WEIGHTS_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, model_dir: Path, codebook: Codebook) -> EnsembleScorer:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If the weights are missing or do not fit the members and the codebook, or a member
            cannot be loaded or has other topics.
        """
        from relclass.models.store import load_model, reading

        path = model_dir / WEIGHTS_FILE
        with reading(path, "the weights of an ensemble"):
            content = json.loads(path.read_text(encoding="utf-8"))
            names = [str(name) for name in content["members"]]
            weights = np.array(content["weights"], dtype=np.float64)
            intercepts = np.array(content["intercepts"], dtype=np.float64)
        n_topics = len(codebook.names)
        if weights.shape != (len(names), n_topics) or intercepts.shape != (n_topics,):
            raise ModelError(
                f"{path}: weights of shape {weights.shape} and intercepts of shape "
                f"{intercepts.shape}, but {len(names)} members and {n_topics} topics"
            )
        members = tuple(load_model(model_dir / MEMBERS_DIR / name) for name in names)
        for member in members:
            if member.topics != codebook.names:
                raise ModelError(
                    f"{model_dir}: member {member.name!r} has the topics {member.topics}, "
                    f"but the ensemble has {codebook.names}"
                )
        return cls(members=members, weights=weights, intercepts=intercepts)


def member_logits(
    members: Sequence[Classifier], texts: Sequence[str], languages: Sequence[str]
) -> np.ndarray:
    """Score passages with each member.

    Returns
    -------
    Shape (n_members, n_passages, n_topics), float32.
    """
    return np.stack([member.predict_logits(texts, languages) for member in members])


def fit_ensemble(
    members: Sequence[Classifier], logits: np.ndarray, y_true: np.ndarray, *, C: float = 0.1
) -> EnsembleScorer:
    """Fit the weights by one logistic regression a topic.

    Parameters
    ----------
    members : models over the same topics.
    logits : of passages that no member was trained on, shape (n_members, n_passages, n_topics).
    y_true : multi-hot topics of the same passages, shape (n_passages, n_topics).
    C : inverse strength of the regularisation, above 0.

    Raises
    ------
    ValueError
        If members share a name or differ in topics, the shapes disagree, or a topic has no
        positive or no negative passage.
    """
    from sklearn.linear_model import LogisticRegression

    names = [member.name for member in members]
    if len(set(names)) < len(names):
        raise ValueError(f"Got members named {names} but expected different names.")
    for member in members[1:]:
        if member.topics != members[0].topics:
            raise ValueError(
                f"Got topics {member.topics} of {member.name!r} but expected those of "
                f"{names[0]!r}, {members[0].topics}."
            )
    if logits.shape != (len(members), *y_true.shape):
        raise ValueError(
            f"Got logits of shape {logits.shape} but expected {(len(members), *y_true.shape)}."
        )
    weights = np.zeros((len(members), y_true.shape[1]))
    intercepts = np.zeros(y_true.shape[1])
    for column, topic in enumerate(members[0].topics):
        labels = y_true[:, column]
        if labels.min() == labels.max():
            raise ValueError(f"Topic {topic!r} needs passages with it and passages without it.")
        model = LogisticRegression(C=C, max_iter=1000).fit(logits[:, :, column].T, labels)
        weights[:, column], intercepts[column] = model.coef_[0], model.intercept_[0]
    return EnsembleScorer(tuple(members), weights, intercepts)


def cross_fit_logits(
    members: Sequence[Classifier],
    logits: np.ndarray,
    y_true: np.ndarray,
    groups: np.ndarray,
    *,
    n_folds: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Give each passage the logits of weights that were fitted without its article.

    Thresholds tuned on these are not flattered by the weights' own fit.

    Parameters
    ----------
    logits, y_true : as for `fit_ensemble`.
    groups : article of each passage, shape (n_passages,).

    Returns
    -------
    Shape (n_passages, n_topics), float32.
    """
    from sklearn.model_selection import GroupKFold

    folds = GroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    crossed = np.zeros(y_true.shape, dtype=np.float32)
    for fit_rows, rows in folds.split(y_true, groups=groups):
        ensemble = fit_ensemble(members, logits[:, fit_rows], y_true[fit_rows])
        crossed[rows] = ensemble.combine(logits[:, rows])
    return crossed
