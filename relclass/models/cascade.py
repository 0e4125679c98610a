"""A cheap member settles the clear passages; the whole ensemble reads only the rest.

Most passages of an archive name no topic, or name one outright, and counting words tells so. The
idea is that of Viola and Jones's cascade (2001, https://doi.org/10.1109/CVPR.2001.990517). Between
the two may stand a member's student: a smaller network settles what words alone did not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from relclass.calibration import Calibration
from relclass.codebook import Codebook
from relclass.errors import ModelError
from relclass.language import detect_languages
from relclass.models.base import Classifier
from relclass.models.ensemble import EnsembleScorer
from relclass.models.onnx import OnnxScorer, Settles
from relclass.normalize import normalize_all

CASCADE_FILE = "cascade.json"
_KEYS = {"base", "first", "low", "high", "sha256", "student"}
_NEAREST = 1e-7  # probabilities of 0 and 1 have no logit


@dataclass(frozen=True)
class StudentStage:
    """What a member's student says, weighed with what the first member says.

    Parameters
    ----------
    member : name of an ensemble's member, of the kind onnx, that has a student.
    weights : shape (2, n_topics), of the first member's logits and of the student's.
    intercepts : shape (n_topics,).
    calibration : of the weighed logits.
    low, high : bounds as those of `CascadeScorer`.
    """

    member: str
    weights: np.ndarray
    intercepts: np.ndarray
    calibration: Calibration
    low: float
    high: float

    def predict_proba(self, of_first: np.ndarray, of_student: np.ndarray) -> np.ndarray:
        """Give probabilities, shape (n_passages, n_topics), of two logits of that shape."""
        weighed = self.weights[0] * of_first + self.weights[1] * of_student + self.intercepts
        return self.calibration.apply(weighed)

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads, ready for JSON."""
        return {
            "member": self.member,
            "weights": self.weights.tolist(),
            "intercepts": self.intercepts.tolist(),
            "calibration": self.calibration.to_dict(),
            "low": self.low,
            "high": self.high,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any], n_topics: int) -> StudentStage:
        """Read what `to_dict` returned.

        Raises
        ------
        ValueError, KeyError, TypeError
            If a key is missing or unknown, or a value is of another type or shape.
        """
        if unknown := set(content) - {field.name for field in fields(cls)}:
            raise ValueError(f"unknown keys {sorted(unknown)} of the student")
        weights = np.array(content["weights"], dtype=np.float64)
        intercepts = np.array(content["intercepts"], dtype=np.float64)
        if weights.shape != (2, n_topics) or intercepts.shape != (n_topics,):
            raise ValueError(f"the student's weights do not fit {n_topics} topics")
        return cls(
            member=str(content["member"]),
            weights=weights,
            intercepts=intercepts,
            calibration=Calibration.from_dict(content["calibration"]),
            low=float(content["low"]),
            high=float(content["high"]),
        )


@dataclass(frozen=True)
class CascadeScorer:
    """An ensemble whose first member may settle a passage alone.

    Parameters
    ----------
    base : an ensemble with its calibration.
    first : name of the member that reads every passage.
    low, high : a passage is settled where the first member's probability of every topic lies
        below `low` or above `high`; 0 <= low < high <= 1.
    by_name : a saved folder refers to `base`, a shipped model, instead of holding it again.
    student : may settle what the first member did not; or None.

    Raises
    ------
    ModelError
        If the base is no ensemble, has no such member, the bounds are out of range, or the
        student's member has none.
    """

    base: Classifier
    first: str
    low: float
    high: float
    by_name: bool = False
    student: StudentStage | None = None
    kind: str = "cascade"

    def __post_init__(self) -> None:
        if not isinstance(self.base.scorer, EnsembleScorer):
            raise ModelError(
                f"model {self.base.name!r} is of kind {self.base.scorer.kind!r}: a cascade needs "
                "an ensemble"
            )
        self.member(self.first)
        for bounds in (self, self.student):
            if bounds is not None and not 0 <= bounds.low < bounds.high <= 1:
                raise ModelError(
                    f"low {bounds.low} and high {bounds.high}: expected 0 <= low < high <= 1"
                )
        if self.student is not None and not student_share(self.member(self.student.member)):
            raise ModelError(f"member {self.student.member!r} has no student")

    @property
    def members(self) -> tuple[Classifier, ...]:
        """The ensemble's members."""
        return self._ensemble.members

    def member(self, name: str) -> Classifier:
        """Return one of them by name.

        Raises
        ------
        ModelError
            If there is none of that name.
        """
        for member in self.members:
            if member.name == name:
                return member
        names = [member.name for member in self.members]
        raise ModelError(f"no member {name!r} in {self.base.name!r}, only {names}")

    @property
    def _ensemble(self) -> EnsembleScorer:
        return cast(EnsembleScorer, self.base.scorer)

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits, shape (n_passages, n_topics), float32; languages are detected."""
        return self.score_languages(texts, detect_languages(texts))

    def score_languages(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Return logits of calibrated probabilities, shape (n_passages, n_topics), float32."""
        first = self.member(self.first)
        of_first = first.predict_logits(texts, languages)
        y_prob = first.calibration.apply(of_first)
        rest = np.flatnonzero(~is_settled(y_prob, low=self.low, high=self.high))
        if len(rest):
            y_prob[rest] = self._read(
                [texts[row] for row in rest], [languages[row] for row in rest], of_first[rest]
            )
        clipped = np.clip(y_prob.astype(np.float64), _NEAREST, 1 - _NEAREST)
        logits: np.ndarray = (np.log(clipped) - np.log1p(-clipped)).astype(np.float32)
        return logits

    def _read(
        self, texts: Sequence[str], languages: Sequence[str], of_first: np.ndarray
    ) -> np.ndarray:
        """Give the probabilities of passages that the first member did not settle."""
        y_prob = np.zeros_like(of_first)
        known = {self.first: of_first}
        settled = np.zeros(len(texts), dtype=bool)
        if self.student is not None:
            stage = self.student

            def settles(of_student: np.ndarray) -> np.ndarray:
                y_prob[:] = stage.predict_proba(of_first, of_student)
                settled[:] = is_settled(y_prob, low=stage.low, high=stage.high)
                return settled

            member = self.member(stage.member)
            known[member.name] = _cascaded_logits(member, texts, languages, settles)
        rest = np.flatnonzero(~settled)
        if len(rest):
            rest_texts = [texts[row] for row in rest]
            rest_languages = [languages[row] for row in rest]
            of_members = [
                known[member.name][rest]
                if member.name in known
                else member.predict_logits(rest_texts, rest_languages)
                for member in self.members
            ]
            combined = self._ensemble.combine(np.stack(of_members))
            y_prob[rest] = self.base.calibration.apply(combined)
        return y_prob

    def save(self, model_dir: Path) -> None:
        """Write the bounds, and the base as a model folder of its own or by name and sha256.

        Raises
        ------
        ModelError
            If the base's name cannot be a folder's; or it is to be kept by name and is not the
            shipped model of that name.
        """
        from relclass.models.store import manifest_sha256, save_model

        if not _is_plain(self.base.name):
            raise ModelError(
                f"base {self.base.name!r}: expected a name without slashes, as its folder's; "
                "give it another"
            )
        content: dict[str, Any] = {
            "base": self.base.name, "first": self.first, "low": self.low, "high": self.high,
        }  # fmt: skip
        if self.student is not None:
            content["student"] = self.student.to_dict()
        if self.by_name:
            _check_shipped(self.base)
            content["sha256"] = manifest_sha256(self.base.name)
        else:
            save_model(self.base, model_dir / self.base.name)
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        (model_dir / CASCADE_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, model_dir: Path, codebook: Codebook) -> CascadeScorer:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If the file is missing or damaged, or the base is missing, another than the one the
            bounds were chosen for, or has other topics.
        """
        from relclass.models.store import load_model, manifest_sha256, reading

        path = model_dir / CASCADE_FILE
        with reading(path, "the bounds of a cascade"):
            content = json.loads(path.read_text(encoding="utf-8"))
            if unknown := set(content) - _KEYS:
                raise ValueError(f"unknown keys {sorted(unknown)}")
            name, first = str(content["base"]), str(content["first"])
            low, high = float(content["low"]), float(content["high"])
            expected = content.get("sha256")
            student = content.get("student")
            if student is not None:
                student = StudentStage.from_dict(student, len(codebook.names))
            if not _is_plain(name):
                raise ValueError(f"base {name!r} is not a plain name")
        if expected is not None and manifest_sha256(name) != expected:
            raise ModelError(
                f"{path}: made for another version of the shipped model {name!r}: "
                "make it anew with relclass cascade"
            )
        base = load_model(name if expected is not None else model_dir / name)
        if base.topics != codebook.names:
            raise ModelError(
                f"{model_dir}: the base has the topics {base.topics}, but the cascade has "
                f"{codebook.names}"
            )
        return cls(base, first, low, high, by_name=expected is not None, student=student)


def _is_plain(name: str) -> bool:
    return name not in {"", ".."} and Path(name).name == name


def _check_shipped(base: Classifier) -> None:
    """Refuse a model that is not the shipped one of its name."""
    from relclass.models.store import load_model, manifest_sha256, save_model, shipped_models

    is_shipped = base.name in shipped_models()
    if is_shipped:
        with TemporaryDirectory() as folder:
            ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
            save_model(base, ours)
            save_model(load_model(base.name), theirs)  # both as this version writes them
            is_shipped = manifest_sha256(ours) == manifest_sha256(theirs)
    if not is_shipped:
        raise ModelError(
            f"base {base.name!r} is not the shipped model of that name, so a cascade cannot refer "
            "to it: leave by_name (--by-name) out, and it is saved with the cascade"
        )


def student_share(member: Classifier) -> float:
    """Return what a model's student costs of the model's time, in (0, 1); 0 without a student."""
    return float(getattr(member.scorer, "student_share", 0.0))


def predict_student_logits(
    member: Classifier, texts: Sequence[str], languages: Sequence[str]
) -> np.ndarray:
    """Score passages with a model's student alone, shape (n_passages, n_topics), float32."""
    return _cascaded_logits(
        member, texts, languages, lambda logits: np.ones(len(logits), dtype=bool)
    )


def _cascaded_logits(
    member: Classifier, texts: Sequence[str], languages: Sequence[str], settles: Settles
) -> np.ndarray:
    scorer = cast(OnnxScorer, member.scorer)
    return scorer.score_cascaded(normalize_all(texts, languages, member.normalize), settles)


def is_settled(y_prob: np.ndarray, *, low: float, high: float) -> np.ndarray:
    """Say which passages have every topic's probability below `low` or above `high`.

    Returns
    -------
    Shape (n_passages,), bool.
    """
    settled: np.ndarray = ((y_prob < low) | (y_prob > high)).all(axis=1)
    return settled
