"""The topics: names, definitions, examples and column order. Users bring their own as YAML."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from relclass.errors import DataError, did_you_mean


class Topic(BaseModel):
    """One label.

    Parameters
    ----------
    name : short and lower-case, as it stands in outputs.
    definition : what a passage must speak of to take the topic.
    excludes : what does not take it, though it may look so.
    examples : passages that take it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    definition: str
    excludes: str = ""
    examples: tuple[str, ...] = ()


class Codebook(BaseModel):
    """The set of topics; the order of `topics` is the order of columns everywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: str
    topics: tuple[Topic, ...] = Field(min_length=1)
    rules: tuple[str, ...] = ()

    @field_validator("topics")
    @classmethod
    def _names_are_unique(cls, topics: tuple[Topic, ...]) -> tuple[Topic, ...]:
        names = [topic.name for topic in topics]
        if len(set(names)) < len(names):
            raise ValueError(f"topic names must be unique, got {names}")
        return topics

    @property
    def names(self) -> tuple[str, ...]:
        """The topics' names in column order."""
        return tuple(topic.name for topic in self.topics)

    def check(self, topics: Iterable[str], *, where: str) -> tuple[str, ...]:
        """Return the topics in codebook order, each once.

        Parameters
        ----------
        topics : names as they were read.
        where : file and line, for the error.

        Raises
        ------
        DataError
            If a name is not in the codebook; it names the nearest one.
        """
        given = set(topics)
        for name in sorted(given - set(self.names)):
            hint = did_you_mean(name, self.names)
            raise DataError(f"{where}: topic {name!r} is not in the codebook{hint}")
        return tuple(name for name in self.names if name in given)


def load_codebook(path: str | Path) -> Codebook:
    """Read a codebook from YAML (or JSON, which YAML contains).

    Raises
    ------
    DataError
        If the file cannot be read or is not a codebook.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return Codebook.model_validate(content)
    except OSError as error:
        raise DataError(f"{path}: cannot read the codebook: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise DataError(f"{path}: not a codebook: {error}") from error
