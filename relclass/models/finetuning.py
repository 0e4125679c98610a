"""Fine-tune a network on labelled passages with transformers' Trainer."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relclass.config import TransformerSettings
from relclass.errors import ConfigError, MissingExtraError
from relclass.examples import Examples
from relclass.models.averaging import WeightAverage
from relclass.models.network import (
    build_network,
    merge_adapters,
    parameter_groups,
    take_head,
)
from relclass.models.rounding import rounded_activations
from relclass.models.transformer import TransformerScorer
from relclass.models.windows import pad
from relclass.run_folder import DEFAULT_OPTIONS, RunOptions

try:
    import torch
    from datasets import Dataset
    from torch import Tensor, nn
    from transformers import (
        EarlyStoppingCallback,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )
except ImportError as error:  # the Trainer cannot be subclassed without it
    raise MissingExtraError(str(error.name), "train") from error

logger = logging.getLogger(__name__)

_HEAD_SEED = 0  # of every run: only networks whose heads start alike can be averaged
_COMPLETE = "complete"
_MEGA_BATCH = 16  # batches sorted together: enough that padding is slight, few enough to shuffle
_MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class FineTuning:
    """What is fitted, and where its checkpoints go.

    Parameters
    ----------
    validation : gives the macro-F1 at 0.5 of each epoch, by which early stopping chooses.
    topics : names in codebook order.
    work_dir : gets the checkpoints and, with TensorBoard, the logs.
    """

    train: Examples
    validation: Examples
    topics: tuple[str, ...]
    work_dir: Path
    seed: int = 0


def finetune(
    task: FineTuning, settings: TransformerSettings, *, options: RunOptions = DEFAULT_OPTIONS
) -> TransformerScorer:
    """Fine-tune a pretrained encoder and its new head.

    Returns
    -------
    The fitted scorer, on the CPU or the GPU it was trained on, adapters merged.

    Raises
    ------
    ConfigError
        If the loss stops being a number, the memory does not suffice, or a setting does not fit
        the machine or the encoder; the message names the key to change.
    """
    with _flushed_denormals():  # around it all: a thread keeps the mode that it was started in
        return _finetune(task, settings, options)


def _finetune(
    task: FineTuning, settings: TransformerSettings, options: RunOptions
) -> TransformerScorer:
    device = resolve_device(options.device)
    set_seed(_HEAD_SEED)
    network, tokenizer = build_network(settings, task.topics, device=device)
    set_seed(task.seed)
    network.set_priors(_prior_logits(task.train))
    if settings.keep_head:
        take_head(network, settings, task.topics)
    scorer = TransformerScorer.wrap(network, tokenizer, settings)
    trainer = _TopicTrainer(
        scorer=scorer,
        settings=settings,
        positive_weight=_positive_weight(task.train, settings),
        model=network,
        args=_training_arguments(task, settings, device=device, options=options),
        train_dataset=_to_dataset(task.train, scorer),
        eval_dataset=_to_dataset(task.validation, scorer),
        compute_metrics=_macro_f1,
        callbacks=_callbacks(settings),
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = last_checkpoint(task.work_dir) if options.resume else None
    if checkpoint is not None:
        logger.info("resuming from %s", checkpoint)
    average = None
    if settings.average_decay is not None:
        average = WeightAverage(network, settings.average_decay)
        average.start(checkpoint)
        # before the callback that marks a checkpoint as complete
        trainer.callback_handler.callbacks.insert(0, average)
    rounding = rounded_activations(network) if settings.round_activations else nullcontext()
    with rounding as rounders:
        if rounders is not None:
            rounders.start(checkpoint)
            trainer.callback_handler.callbacks.insert(0, rounders)
        _run(trainer, settings, checkpoint)
    if average is not None:
        average.finish()
    merge_adapters(network)
    network.eval()
    return scorer


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    # late in training Adam's averages are tiny, and numbers below the normal range are slow;
    # the processor's mode is the caller's, so it is put back
    was_flushed = bool(torch.tensor([1e-40]).mul(1.0).item() == 0.0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_flushed)


def _run(trainer: Trainer, settings: TransformerSettings, checkpoint: Path | None) -> None:
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not is_memory and not _speaks_of_memory(error):
            raise
        raise ConfigError(
            f"out of memory at step {trainer.state.global_step}: lower model.batch_size "
            f"(now {settings.batch_size}) and raise model.gradient_accumulation_steps (now "
            f"{settings.gradient_accumulation_steps}) by as much; or lower model.max_length "
            f"(now {settings.max_length})"
        ) from error


def _speaks_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text


def resolve_device(device: str) -> str:
    """Turn "auto" into "cuda" where there is one, else "cpu".

    Raises
    ------
    ConfigError
        If a GPU is asked for and torch sees none.
    """
    has_gpu = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if has_gpu else "cpu"
    if device == "cuda" and not has_gpu:
        raise ConfigError("device 'cuda' was asked for but torch sees no GPU; use --device cpu")
    if device not in {"cpu", "cuda"}:
        raise ConfigError(f"device {device!r}: expected auto, cpu or cuda")
    return device


def choose_precision(precision: str, device: str) -> str:
    """Resolve "auto": bf16 where the processor computes in it, else fp32.

    Raises
    ------
    ConfigError
        If fp16 is asked for on a CPU, where the Trainer cannot scale its loss.
    """
    if precision == "fp16" and device == "cpu":
        raise ConfigError("model.precision fp16 needs a GPU; use bf16, fp32 or auto")
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    # without these instructions bf16 is emulated, and slower than fp32
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bf16" if has_bf16 else "fp32"


class _OneGpu(TrainingArguments):  # type: ignore[misc]
    """Arguments that take one GPU a process; on several, accelerate starts a process for each.

    Where there are more, the Trainer would have `DataParallel` join what they return, which is
    not made for the logits of several heads or for windows of a passage.
    """

    @property
    def n_gpu(self) -> int:
        n_gpus: int = min(1, super().n_gpu)
        return n_gpus


def _training_arguments(
    task: FineTuning, settings: TransformerSettings, *, device: str, options: RunOptions
) -> TrainingArguments:
    precision = choose_precision(settings.precision, device)
    stops_early = settings.early_stopping_patience is not None
    strategy = "epoch" if options.checkpoint_steps is None else "steps"
    steps = options.checkpoint_steps or 500
    return _OneGpu(
        output_dir=str(task.work_dir),
        num_train_epochs=settings.epochs,
        max_steps=-1 if options.max_steps is None else options.max_steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=2 * settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_ratio,  # below 1 it is a share of all steps
        lr_scheduler_type="linear",
        max_grad_norm=_MAX_GRAD_NORM,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=device == "cpu",
        seed=task.seed,
        eval_strategy=strategy,
        eval_steps=steps,
        save_strategy=strategy,
        save_steps=steps,
        save_total_limit=2 if stops_early else 1,
        load_best_model_at_end=stops_early,
        metric_for_best_model="macro_f1",
        greater_is_better=True,
        logging_steps=25,
        logging_nan_inf_filter=False,  # it would hide the very thing that must stop a run
        report_to=["tensorboard"] if options.use_tensorboard else [],
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=device == "cuda",
        disable_tqdm=not logger.isEnabledFor(logging.INFO),
    )


def _callbacks(settings: TransformerSettings) -> list[TrainerCallback]:
    callbacks: list[TrainerCallback] = [_MarkComplete(), _LogFigures()]
    if settings.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(settings.early_stopping_patience))
    return callbacks


class _MarkComplete(TrainerCallback):  # type: ignore[misc]
    """Mark a checkpoint once all of it is on disk: a killed run leaves halves behind."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / _COMPLETE).write_text("", encoding="utf-8")


class _LogFigures(TrainerCallback):  # type: ignore[misc]
    """Send the Trainer's figures to our logger, where it would print them."""

    def on_log(self, args: Any, state: Any, control: Any, **arguments: Any) -> None:
        if state.is_world_process_zero:
            logger.info("step %d of %d: %s", state.global_step, state.max_steps, arguments["logs"])


def last_checkpoint(work_dir: Path) -> Path | None:
    """Return the newest complete checkpoint of a run, after deleting halves that a kill left."""
    complete: dict[int, Path] = {}
    for folder in work_dir.glob("checkpoint-*"):
        if (folder / _COMPLETE).is_file():
            complete[int(folder.name.rpartition("-")[2])] = folder
        else:
            logger.warning("%s is incomplete (a run was killed while writing it)", folder)
            shutil.rmtree(folder, ignore_errors=True)
    return complete[max(complete)] if complete else None


def _to_dataset(examples: Examples, scorer: TransformerScorer) -> Dataset:
    windows = scorer.tokenize(examples.texts)
    ids: list[list[list[int]]] = [[] for _ in examples.texts]
    for passage, input_ids in zip(windows.passage, windows.input_ids, strict=True):
        ids[passage].append(input_ids)
    return Dataset.from_dict(
        {
            "windows": ids,
            "length": [max(len(window) for window in passage) for passage in ids],
            "labels": examples.y_true.astype(np.float32).tolist(),
            "weights": examples.weights.astype(np.float32).tolist(),
        }
    )


def _prior_logits(examples: Examples) -> Tensor:
    # one imagined positive and one negative keep a topic without either finite
    share = (examples.y_true.sum(0) + 1.0) / (len(examples.y_true) + 2.0)
    return torch.tensor(np.log(share / (1 - share)), dtype=torch.float32)


def _positive_weight(examples: Examples, settings: TransformerSettings) -> Tensor | None:
    if settings.positive_weight == "none":
        return None
    if settings.positive_weight == "balanced":
        n_positive = np.maximum(examples.y_true.sum(0), 1.0)
        balanced = (len(examples.y_true) - n_positive) / n_positive
        return torch.tensor(np.maximum(balanced, 1e-3), dtype=torch.float32)
    return torch.full((examples.y_true.shape[1],), float(settings.positive_weight))


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


class _TopicTrainer(Trainer):  # type: ignore[misc]
    """The Trainer with our loss, parameter groups and order of passages."""

    def __init__(
        self,
        *,
        scorer: TransformerScorer,
        settings: TransformerSettings,
        positive_weight: Tensor | None,
        **arguments: Any,
    ) -> None:
        self._scorer = scorer
        self._settings = settings
        self._positive_weight = positive_weight
        super().__init__(data_collator=self._collate, **arguments)
        self.model_accepts_loss_kwargs = False

    def _collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        windows = [window for row in rows for window in row["windows"]]
        passage = [index for index, row in enumerate(rows) for _ in row["windows"]]
        input_ids, mask = pad(windows, pad_token_id=self._scorer.pad_token_id)
        return {
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
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        of_heads = model(ids, mask, with_exits=model.training).float()
        if not model.training:
            of_heads = of_heads.unsqueeze(0)
        *early, (loss, logits) = (self._loss(logits, model, inputs) for logits in of_heads)
        for exit_loss, _ in early:
            loss = loss + self._settings.exit_weight * exit_loss
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
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not math.isfinite(loss.item()):
            raise ConfigError(
                f"the loss became {loss.item()} at step {self.state.global_step + 1}: lower "
                f"model.learning_rate (now {self._settings.learning_rate:g}) and "
                f"model.head_learning_rate (now {self._settings.head_learning_rate:g}), or set "
                "model.precision to fp32"
            )
        return loss


def _macro_f1(prediction: Any) -> dict[str, float]:
    from sklearn.metrics import f1_score

    y_true = prediction.label_ids >= 0.5
    y_pred = prediction.predictions > 0  # probability above 0.5
    return {"macro_f1": float(f1_score(y_true, y_pred, average="macro", zero_division=0.0))}


def read_history(work_dir: Path) -> list[dict[str, Any]]:
    """Return what the Trainer logged, from the last checkpoint; empty where there is none."""
    checkpoint = last_checkpoint(work_dir)
    if checkpoint is None:
        return []
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    history: list[dict[str, Any]] = state["log_history"]
    return history
