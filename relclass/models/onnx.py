"""OnnxScorer: the fine-tuned network as int8 ONNX; fast, and needs no torch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relclass.codebook import Codebook
from relclass.errors import ModelError
from relclass.models.windows import (
    WindowRule,
    Windows,
    make_windows,
    pad,
    pool_windows,
    select_passages,
    token_batches,
)

MODEL, TOKENIZER, SETTINGS = "model.onnx", "tokenizer.json", "onnx.json"
STUDENT, EMBEDDINGS, OVERFLOW = "student.onnx", "embeddings.onnx", "overflow.onnx"
THREADS_VARIABLE = "RELCLASS_THREADS"
_MAX_TOKENS = 512  # of a batch: more fall out of a core's cache (1,024 are a tenth slower)

Settles = Callable[[np.ndarray], np.ndarray]
"""Given the student's logits of all passages, shape (n_passages, n_topics), says which of them need
not be read further, shape (n_passages,), bool."""


@dataclass(frozen=True)
class OnnxScorer:
    """A network in ONNX with its tokenizer; perhaps with a smaller one that reads first.

    Parameters
    ----------
    model_dir : holds model.onnx, tokenizer.json and onnx.json; with a student also student.onnx,
        and embeddings.onnx, which completes both networks; and overflow.onnx, see `overflows`, if
        the networks need all 8 bits of an activation.
    session : `onnxruntime.InferenceSession`; takes input_ids and attention_mask, both int64 of
        shape (batch, seq_len), and gives logits, float32 of shape (batch, n_topics).
    tokenizer : `tokenizers.Tokenizer`, without truncation or padding.
    rule : how passages beyond the encoder's limit are windowed.
    prefix : put before every passage.
    student : a session as the other, of a network distilled from it that costs `student_share` of
        its time, in (0, 1); or None.
    n_threads : batches that are computed at a time, each by one core: cores that share a batch
        wait for one another at every operator.
    """

    model_dir: Path
    session: Any
    tokenizer: Any
    rule: WindowRule
    prefix: str
    pad_token_id: int
    n_topics: int
    student: Any = None
    student_share: float = 0.0
    n_threads: int = 1
    kind: str = "onnx"

    def tokenize(self, texts: Sequence[str]) -> Windows:
        """Turn normalised texts into windows of token ids, the prefix put in front."""
        prefixed = [self.prefix + text for text in texts]
        encodings = self.tokenizer.encode_batch_fast(prefixed)
        return make_windows([encoding.ids for encoding in encodings], self.rule)

    def run(self, batch_ids: Sequence[list[int]], session: Any = None) -> np.ndarray:
        """Return the logits of one batch of windows, shape (n_windows, n_topics), float32."""
        input_ids, mask = pad(batch_ids, pad_token_id=self.pad_token_id)
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        logits: np.ndarray = (session or self.session).run(["logits"], inputs)[0]
        return logits

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits, shape (n_passages, n_topics), float32; any length of text is read whole.

        Passages beyond the limit are windowed; see `pool_windows`.
        """
        return self._score_windows(self.tokenize(texts), self.session)

    def score_cascaded(self, texts: Sequence[str], settles: Settles) -> np.ndarray:
        """Let the student read all passages, and the network those that this does not settle.

        Returns
        -------
        The student's logits of passages that it settles, the network's of the others, shape
        (n_passages, n_topics), float32.

        Raises
        ------
        ModelError
            If the model has no student.
        """
        if self.student is None:
            raise ModelError(f"{self.model_dir}: no {STUDENT}: the model has no student")
        windows = self.tokenize(texts)
        logits = self._score_windows(windows, self.student)
        rest = np.flatnonzero(~settles(logits))
        if len(rest):
            logits[rest] = self._score_windows(select_passages(windows, rest), self.session)
        return logits

    def _score_windows(self, windows: Windows, session: Any) -> np.ndarray:
        logits = np.zeros((len(windows.input_ids), self.n_topics), dtype=np.float32)

        def fill(batch: np.ndarray) -> None:
            logits[batch] = self.run([windows.input_ids[index] for index in batch], session)

        # the same batches however many threads: the last bits of a float depend on the padding
        batches = list(token_batches(windows.lengths, max_tokens=_MAX_TOKENS))
        if self.n_threads > 1 and len(batches) > 1:
            with ThreadPoolExecutor(self.n_threads) as pool:
                list(pool.map(fill, reversed(batches)))  # the longest first, so that none waits
        else:
            for batch in batches:
                fill(batch)
        return pool_windows(logits, windows.passage, windows.n_passages)

    def save(self, model_dir: Path) -> None:
        """Copy the model's files into a folder."""
        optional = () if self.student is None else (STUDENT, EMBEDDINGS)
        if (self.model_dir / OVERFLOW).is_file():  # not in folders written before version 0.5
            optional = (*optional, OVERFLOW)
        for name in (MODEL, TOKENIZER, SETTINGS, *optional):
            shutil.copyfile(self.model_dir / name, model_dir / name)

    @classmethod
    def load(cls, model_dir: Path, codebook: Codebook, *, threads: int | None = None) -> OnnxScorer:
        """Read what `relclass.models.export` or `save` wrote.

        Parameters
        ----------
        threads : see `n_threads`; None takes $RELCLASS_THREADS, or else one a core. A process
            beside others wants 1.

        Raises
        ------
        ModelError
            If a file is missing or damaged, or the model has other topics than the codebook.
        """
        from tokenizers import Tokenizer

        try:
            settings = json.loads((model_dir / SETTINGS).read_text(encoding="utf-8"))
            rule = WindowRule(
                settings["max_length"], tuple(settings["head"]), tuple(settings["tail"])
            )
            tokenizer = Tokenizer.from_file(str(model_dir / TOKENIZER))
            student, share = None, float(settings.get("student_share", 0.0))
            embeddings = (model_dir / EMBEDDINGS).read_bytes() if share else b""
            probe = model_dir / OVERFLOW
            is_exact = probe.is_file() and overflows(probe)
            if share:
                student = open_session(model_dir / STUDENT, embeddings, is_exact=is_exact)
            session = open_session(model_dir / MODEL, embeddings, is_exact=is_exact)
        except ModelError:
            raise
        except Exception as error:  # onnxruntime and tokenizers raise their own kinds
            raise ModelError(f"{model_dir}: cannot load the ONNX model: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if tuple(settings["topics"]) != codebook.names:
            raise ModelError(
                f"{model_dir}: the network gives the topics {settings['topics']} but the "
                f"codebook has {list(codebook.names)}"
            )
        return cls(
            model_dir=model_dir,
            session=session,
            tokenizer=tokenizer,
            rule=rule,
            prefix=settings["prefix"],
            pad_token_id=settings["pad_token_id"],
            n_topics=len(codebook.names),
            student=student,
            student_share=share,
            n_threads=count_threads(threads),
        )


def count_threads(threads: int | None) -> int:
    """Resolve the number of threads: the argument, $RELCLASS_THREADS, or one a core for 0.

    Raises
    ------
    ModelError
        If the variable is not a whole number of 0 or more.
    """
    if threads is None:
        value = os.environ.get(THREADS_VARIABLE, "0")
        if not value.isdecimal():
            raise ModelError(
                f"${THREADS_VARIABLE} is {value!r}: expected a whole number, 0 or more"
            )
        threads = int(value)
    return threads or available_cores()


def available_cores() -> int:
    """Count the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def overflows(probe: Path | bytes) -> bool:
    """Say whether this processor's fastest int8 products can be wrong.

    Processors with AVX2 or AVX-512 but without VNNI add pairs of products in 16 bits, which is too
    few for 8 bits by 8 (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).

    Parameters
    ----------
    probe : a graph that multiplies the widest values, as `relclass.models.export` writes it; its
        file, or itself.
    """
    session = open_session(probe)
    (values,) = session.get_inputs()
    widest = np.full((8, values.shape[1]), 255, dtype=np.float32)
    product = session.run(None, {values.name: widest})[0]
    return bool((product != values.shape[1] * 255 * 127).any())


def open_session(
    model: Path | bytes, rest: bytes = b"", *, is_exact: bool = False, n_threads: int = 1
) -> Any:
    """Open a network for prediction on the CPU.

    Parameters
    ----------
    model : its file, or itself, serialised.
    rest : of the network, serialised. Protocol buffers put end to end are read as one message,
        their parts merged (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
    is_exact : take slower products that are exact on every processor; see `overflows`.
    n_threads : cores that share a call; 0 takes all.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if is_exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    if isinstance(model, Path):
        source = model.read_bytes() + rest if rest else str(model)
    else:
        source = model + rest
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
