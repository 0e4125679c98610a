"""transformers' Trainer with our loss, our parameter groups and our order of passages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from relclass.config import TransformerSettings
from relclass.errors import ConfigError, MissingExtraError
from relclass.models.imitation import Imitated
from relclass.models.pretrained import parameter_groups
from relclass.models.transformer import TransformerScorer
from relclass.models.windows import pad

try:
    import torch
    from torch import Tensor, nn
    from transformers import Trainer
except ImportError as error:  # the Trainer cannot be subclassed without it
    raise MissingExtraError(str(error.name), "train") from error

_MEGA_BATCH = 16  # batches sorted together: enough that padding is slight, few enough to shuffle


def topic_loss(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    positive_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Binary cross-entropy over topics, each label with its weight.

    Parameters
    ----------
    logits, targets, weights : shape (batch, n_topics); targets in [0, 1].
    positive_weight : shape (n_topics,), of positives, or None.
    label_smoothing : targets are drawn so far towards 0.5.
    """
    targets = targets * (1 - label_smoothing) + label_smoothing / 2
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=positive_weight, reduction="none"
    )  # (batch, n_topics)
    return (losses * weights).mean()


class LengthSampler(torch.utils.data.Sampler[int]):  # type: ignore[misc]
    """Shuffle passages so that a batch's are of like length; the same for a seed and epoch."""

    def __init__(self, lengths: Sequence[int], *, batch_size: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is drawn; a resumed run names the one it was in."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.lengths))
        mega = self.batch_size * _MEGA_BATCH
        batches: list[np.ndarray] = []
        short: list[np.ndarray] = []
        for start in range(0, len(order), mega):
            part = order[start : start + mega]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            for first in range(0, len(part), self.batch_size):
                batch = part[first : first + self.batch_size]
                (batches if len(batch) == self.batch_size else short).append(batch)
        rng.shuffle(batches)  # an incomplete batch must come last, or it shifts all after it
        for batch in [*batches, *short]:
            yield from batch.tolist()


class TopicTrainer(Trainer):  # type: ignore[misc]
    """The Trainer with our loss, parameter groups and order of passages."""

    def __init__(
        self,
        *,
        scorer: TransformerScorer,
        settings: TransformerSettings,
        positive_weight: Tensor | None,
        imitated: Imitated | None = None,
        **arguments: Any,
    ) -> None:
        self._scorer = scorer
        self._settings = settings
        self._positive_weight = positive_weight
        self._imitated = imitated
        super().__init__(data_collator=self._collate, **arguments)
        self.model_accepts_loss_kwargs = False

    def _collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        windows = [window for row in rows for window in row["windows"]]
        passage = [index for index, row in enumerate(rows) for _ in row["windows"]]
        input_ids, mask = pad(windows, pad_token_id=self._scorer.pad_token_id)
        states = {}
        if self._imitated is not None and "places" in rows[0]:  # the validation passages have none
            places = [place for row in rows for place in row["places"]]
            states["states"] = self._imitated.select(places)
        return states | {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(mask),
            "passage": torch.tensor(passage),
            "labels": torch.tensor([row["labels"] for row in rows]),
            "weights": torch.tensor([row["weights"] for row in rows]),
        }

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthSampler:
        return LengthSampler(
            self.train_dataset["length"],
            batch_size=self.args.train_batch_size,
            seed=self.args.seed,
        )

    def create_optimizer(self, model: Any = None) -> Any:
        """Make AdamW over our parameter groups, once."""
        optimizer: Any = getattr(self, "optimizer", None)
        if optimizer is None:
            groups = parameter_groups(self.model, self._settings)
            optimizer = self.optimizer = torch.optim.AdamW(groups, fused=True)
        return optimizer

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the loss of a batch, with that of the exits' heads and of imitation."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        if "states" in inputs and self._imitated is not None:
            of_heads, pooled = model(ids, mask, with_exits=model.training, with_pooled=True)
            imitation_loss = self._imitated.loss(pooled, inputs["states"])
        else:
            of_heads, imitation_loss = model(ids, mask, with_exits=model.training), None
        of_heads = of_heads.float()
        if not model.training:
            of_heads = of_heads.unsqueeze(0)
        *early, (loss, logits) = (self._loss(logits, model, inputs) for logits in of_heads)
        for exit_loss, _ in early:
            loss = loss + self._settings.exit_weight * exit_loss
        if imitation_loss is not None:
            loss = loss + self._settings.imitate_weight * imitation_loss
        return (loss, {"loss": loss, "logits": logits}) if return_outputs else loss

    def _loss(self, logits: Tensor, model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return one head's loss and its logits by passage, shape (batch, n_topics)."""
        labels, passage = inputs["labels"], inputs["passage"]
        if len(logits) > len(labels):  # the highest window counts, as in scoring
            lowest = torch.full_like(labels, -torch.inf)
            index = passage.unsqueeze(1).expand_as(logits)
            logits = lowest.scatter_reduce(0, index, logits, reduce="amax")
        positive_weight = self._positive_weight
        loss = topic_loss(
            logits,
            labels,
            inputs["weights"],
            positive_weight=None if positive_weight is None else positive_weight.to(logits.device),
            label_smoothing=self._settings.label_smoothing if model.training else 0.0,
        )
        return loss, logits

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Take a step.

        Raises
        ------
        ConfigError
            If the loss stops being a number.
        """
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not math.isfinite(loss.item()):
            raise ConfigError(
                f"the loss became {loss.item()} at step {self.state.global_step + 1}: lower "
                f"model.learning_rate (now {self._settings.learning_rate:g}) and "
                f"model.head_learning_rate (now {self._settings.head_learning_rate:g}), or set "
                "model.precision to fp32"
            )
        return loss
