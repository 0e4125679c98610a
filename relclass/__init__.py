"""relclass: topics of news passages on Iran–Azerbaijan relations.

The public face: it re-exports, and imports a room only when a name of it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.7.0"

_HOMES = {
    "Article": "records",
    "Classifier": "models.base",
    "Codebook": "codebook",
    "ConfigError": "errors",
    "DataError": "errors",
    "LabelledPassage": "records",
    "ModelError": "errors",
    "Passage": "records",
    "Prediction": "records",
    "load": "models.store",
    "load_codebook": "codebook",
    "load_config": "config",
    "predict_articles": "predict",
    "predict_passages": "predict",
    "read_articles": "articles",
    "save": "models.store",
    "split_passages": "passages",
    "summarize": "summary",
}
_RENAMED = {"load": "load_model", "save": "save_model"}

__all__ = [
    "Article",
    "Classifier",
    "Codebook",
    "ConfigError",
    "DataError",
    "LabelledPassage",
    "ModelError",
    "Passage",
    "Prediction",
    "__version__",
    "load",
    "load_codebook",
    "load_config",
    "predict_articles",
    "predict_passages",
    "read_articles",
    "save",
    "split_passages",
    "summarize",
]

if TYPE_CHECKING:
    from relclass.articles import read_articles
    from relclass.codebook import Codebook, load_codebook
    from relclass.config import load_config
    from relclass.errors import ConfigError, DataError, ModelError
    from relclass.models.base import Classifier
    from relclass.models.store import load_model as load
    from relclass.models.store import save_model as save
    from relclass.passages import split_passages
    from relclass.predict import predict_articles, predict_passages
    from relclass.records import Article, LabelledPassage, Passage, Prediction
    from relclass.summary import summarize


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'relclass' has no attribute {name!r}")
    value = getattr(import_module(f"relclass.{_HOMES[name]}"), _RENAMED.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
