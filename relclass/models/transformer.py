"""TransformerScorer: a fine-tuned encoder in torch, for training machines and for reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relclass.codebook import Codebook
from relclass.config import TransformerSettings
from relclass.errors import ConfigError, ModelError
from relclass.models.windows import (
    WindowRule,
    Windows,
    make_windows,
    padded_batches,
    pool_windows,
)

SETTINGS = "transformer.json"
HEAD = "head.safetensors"
_MAX_TOKENS = 8192  # of a batch: fits beside a base-size encoder in 4 GB


@dataclass(frozen=True)
class TransformerScorer:
    """A fine-tuned network with its tokenizer.

    Parameters
    ----------
    network : `relclass.models.network.PooledNetwork` or `NativeNetwork`.
    tokenizer : of transformers.
    settings : those it was trained with; pooling, prefix and max_length matter here.
    rule : how passages beyond max_length are windowed.
    """

    network: Any
    tokenizer: Any
    settings: TransformerSettings
    rule: WindowRule
    kind: str = "transformer"

    @classmethod
    def wrap(cls, network: Any, tokenizer: Any, settings: TransformerSettings) -> TransformerScorer:
        """Put a network and its tokenizer together."""
        return cls(network, tokenizer, settings, window_rule(tokenizer, settings))

    @property
    def pad_token_id(self) -> int:
        """The tokenizer's padding id."""
        return int(self.tokenizer.pad_token_id)

    def tokenize(self, texts: Sequence[str]) -> Windows:
        """Turn normalised texts into windows of token ids, the prefix put in front."""
        if not texts:
            return Windows([], np.zeros(0, dtype=np.int64), 0)
        prefixed = [self.settings.prefix + text for text in texts]
        ids = self.tokenizer(prefixed, truncation=False, verbose=False)["input_ids"]
        return make_windows(ids, self.rule)

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits, shape (n_passages, n_topics), float32; any length of text is read whole.

        Passages beyond max_length are windowed; see `pool_windows`.
        """
        import torch

        windows = self.tokenize(texts)
        n_topics = self._n_topics()
        logits = np.zeros((len(windows.input_ids), n_topics), dtype=np.float32)
        parameter = next(self.network.parameters())
        self.network.eval()
        with torch.inference_mode():
            for batch, input_ids, mask in padded_batches(
                windows.input_ids, pad_token_id=self.pad_token_id, max_tokens=_MAX_TOKENS
            ):
                output = self.network(
                    torch.from_numpy(input_ids).to(parameter.device),
                    torch.from_numpy(mask).to(parameter.device),
                )
                logits[batch] = output.float().cpu().numpy()
        return pool_windows(logits, windows.passage, windows.n_passages)

    def _n_topics(self) -> int:
        if self.settings.pooling == "native":
            return int(self.network.model.config.num_labels)
        return int(self.network.head.out_features)

    def save(self, model_dir: Path) -> None:
        """Write a checkpoint that transformers reads, the head, and how the two are used.

        With native pooling the folder is a plain Hugging Face checkpoint, head included.
        """
        from safetensors.torch import save_file

        from relclass.models.compaction import full_state

        is_native = self.settings.pooling == "native"
        model = self.network.model if is_native else self.network.encoder
        state = None if is_native else full_state(model)
        model.save_pretrained(model_dir, state_dict=state, max_shard_size="50GB")
        self.tokenizer.save_pretrained(model_dir)
        if not is_native:
            save_file(self.network.heads_state(), model_dir / HEAD)
        content = self.settings.model_dump_json(indent=1)
        (model_dir / SETTINGS).write_text(content, encoding="utf-8")

    @classmethod
    def load(cls, model_dir: Path, codebook: Codebook) -> TransformerScorer:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If a file is missing or damaged, or the head has another number of topics.
        """
        from safetensors.torch import load_file

        from relclass.models.pretrained import choose_attention, load_network, load_tokenizer

        try:
            content = json.loads((model_dir / SETTINGS).read_text(encoding="utf-8"))
            settings = TransformerSettings.model_validate(content)
            network = load_network(
                str(model_dir),
                settings,
                codebook.names,
                attention=choose_attention(settings.attention, "cpu"),
                new_head=False,
            )
            tokenizer = load_tokenizer(str(model_dir))
            if settings.pooling != "native":
                network.load_heads(load_file(model_dir / HEAD))
        except (OSError, ValueError, RuntimeError, ConfigError) as error:
            raise ModelError(f"{model_dir}: cannot load the transformer: {error}") from error
        network.eval()
        return cls.wrap(network, tokenizer, settings)


def window_rule(tokenizer: Any, settings: TransformerSettings) -> WindowRule:
    """Say how passages beyond max_length are windowed, special tokens and prefix kept in each.

    Raises
    ------
    ConfigError
        If max_length leaves no room for text.
    """
    empty = list(tokenizer("")["input_ids"])
    n_front = len(empty) - 1 if len(empty) else 0  # [CLS] … [SEP], <s> … </s>
    prefix = tokenizer(settings.prefix.rstrip(), add_special_tokens=False)["input_ids"]
    head = (*empty[:n_front], *(prefix if settings.prefix else ()))
    try:
        return WindowRule(settings.max_length, head=head, tail=tuple(empty[n_front:]))
    except ValueError as error:
        raise ConfigError(f"model.max_length: {error}") from error
