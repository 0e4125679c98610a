"""What people use instead: transformers' pipeline, sentence-transformers, SetFit.

All of them run the same encoder, in float32 as they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relclass.benchmark.measure import Contender, Labelled, Task
from relclass.errors import MissingExtraError


def build(task: Task) -> Contender:
    """Load a peer.

    Raises
    ------
    MissingExtraError
        If its library is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "train") from error
    torch.set_num_threads(task.n_threads)
    makers: dict[str, Any] = {
        "pipeline": Pipeline,
        "sentence-transformers": EmbeddingsWithRegression,
        "setfit": SetFit,
    }
    contender: Contender = makers[task.kind](task.source, task.batch_size)
    return contender


def write_random_head(encoder: str, folder: Path, n_topics: int) -> None:
    """Write a checkpoint of an encoder under a classification head that was never trained.

    The head costs the same time as a trained one; its topics mean nothing.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # it reports at length that the head is new
    logging.disable_progress_bar()
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder, num_labels=n_topics, problem_type="multi_label_classification"
    )
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    # RoBERTa's positions begin at 2
    longest = model.config.max_position_embeddings - 2
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@dataclass
class Pipeline:
    """``pipeline("text-classification")`` as it comes."""

    source: str
    batch_size: int
    note: str = "random head"

    def __post_init__(self) -> None:
        from transformers import pipeline

        self._pipeline = pipeline(
            "text-classification",
            model=self.source,
            device="cpu",
            batch_size=self.batch_size,
            top_k=None,
            function_to_apply="sigmoid",
        )

    def fit(self, train: Labelled) -> None:
        """Do nothing: the head stays random."""

    def predict(self, texts: Sequence[str], languages: Sequence[str]) -> None:
        """Label passages, to no purpose but the time."""
        self._pipeline(list(texts), truncation=True)


@dataclass
class EmbeddingsWithRegression:
    """sentence-transformers under a logistic regression a topic."""

    source: str
    batch_size: int
    note: str = ""

    def __post_init__(self) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError("sentence-transformers", "peers") from error
        self._encoder = SentenceTransformer(self.source, device="cpu")
        self._head: Any = None

    def fit(self, train: Labelled) -> None:
        """Fit the regressions."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier

        head = OneVsRestClassifier(LogisticRegression(class_weight="balanced", max_iter=1000))
        self._head = head.fit(self._encode(train.texts), np.array(train.y_true))
        self.note = f"head fitted on {len(train.texts):,} passages"

    def predict(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray | None:
        """Label passages."""
        embeddings = self._encode(texts)
        if self._head is None:
            return None
        return np.asarray(self._head.predict(embeddings), dtype=np.uint8)

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(
            self._encoder.encode(list(texts), batch_size=self.batch_size, show_progress_bar=False)
        )


@dataclass
class SetFit:
    """SetFit's model (Tunstall et al. 2022, https://arxiv.org/abs/2209.11055), head alone fitted.

    Its contrastive training changes the accuracy and not the speed, so it is left out here.
    """

    source: str
    batch_size: int
    note: str = ""

    def __post_init__(self) -> None:
        try:
            from setfit import SetFitModel
        except ImportError as error:
            raise MissingExtraError("setfit", "peers") from error
        self._model = SetFitModel.from_pretrained(
            self.source, multi_target_strategy="one-vs-rest", device="cpu"
        )
        self._is_fitted = False

    def fit(self, train: Labelled) -> None:
        """Fit the head."""
        self._model.fit(train.texts, train.y_true, num_epochs=1, batch_size=self.batch_size)
        self._is_fitted = True
        self.note = f"head alone fitted, on {len(train.texts):,} passages"

    def predict(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray | None:
        """Label passages."""
        if not self._is_fitted:
            self._model.encode(list(texts), batch_size=self.batch_size)
            return None
        rows = self._model.predict(
            list(texts), batch_size=self.batch_size, as_numpy=True, show_progress_bar=False
        )
        return np.asarray(rows, dtype=np.uint8)
