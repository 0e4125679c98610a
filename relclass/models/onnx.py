"""OnnxScorer: the fine-tuned network as int8 ONNX; fast, and needs no torch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
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
    token_batches,
)

MODEL, TOKENIZER, SETTINGS = "model.onnx", "tokenizer.json", "onnx.json"
THREADS_VARIABLE = "RELCLASS_THREADS"
_MAX_TOKENS = 1024  # of a batch: the activations then stay in a core's cache


@dataclass(frozen=True)
class OnnxScorer:
    """A network in ONNX with its tokenizer.

    Parameters
    ----------
    model_dir : holds model.onnx, tokenizer.json and onnx.json.
    session : `onnxruntime.InferenceSession`; takes input_ids and attention_mask, both int64 of
        shape (batch, seq_len), and gives logits, float32 of shape (batch, n_topics).
    tokenizer : `tokenizers.Tokenizer`, without truncation or padding.
    rule : how passages beyond the encoder's limit are windowed.
    prefix : put before every passage.
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
    n_threads: int = 1
    kind: str = "onnx"

    def tokenize(self, texts: Sequence[str]) -> Windows:
        """Turn normalised texts into windows of token ids, the prefix put in front."""
        prefixed = [self.prefix + text for text in texts]
        encodings = self.tokenizer.encode_batch_fast(prefixed)
        return make_windows([encoding.ids for encoding in encodings], self.rule)

    def run(self, batch_ids: Sequence[list[int]]) -> np.ndarray:
        """Return the logits of one batch of windows, shape (n_windows, n_topics), float32."""
        input_ids, mask = pad(batch_ids, pad_token_id=self.pad_token_id)
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        logits: np.ndarray = self.session.run(["logits"], inputs)[0]
        return logits

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits, shape (n_passages, n_topics), float32; any length of text is read whole.

        Passages beyond the limit are windowed; see `pool_windows`.
        """
        windows = self.tokenize(texts)
        logits = np.zeros((len(windows.input_ids), self.n_topics), dtype=np.float32)

        def fill(batch: np.ndarray) -> None:
            logits[batch] = self.run([windows.input_ids[index] for index in batch])

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
        for name in (MODEL, TOKENIZER, SETTINGS):
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
            session = open_session(model_dir / MODEL)
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


def open_session(model_path: Path) -> Any:
    """Open a network for prediction on the CPU, one core a call."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(model_path), options, providers=["CPUExecutionProvider"]
    )
