"""Fine-tune a network on labelled passages with transformers' Trainer."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relclass.config import TransformerSettings
from relclass.errors import ConfigError, MissingExtraError
from relclass.examples import Examples
from relclass.models.averaging import WeightAverage
from relclass.models.imitation import Imitated, read_states
from relclass.models.pretrained import build_network, merge_adapters, take_head
from relclass.models.rounding import rounded_activations
from relclass.models.topic_trainer import TopicTrainer
from relclass.models.transformer import TransformerScorer
from relclass.run_folder import DEFAULT_OPTIONS, RunOptions

try:
    import torch
    from datasets import Dataset
    from torch import Tensor
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
    train_dataset = _to_dataset(task.train, scorer)
    imitated = None
    if settings.imitate is not None:
        train_dataset, imitated = _with_states(
            train_dataset, scorer, settings.imitate, work_dir=task.work_dir, device=device
        )
    trainer = TopicTrainer(
        scorer=scorer,
        settings=settings,
        positive_weight=_positive_weight(task.train, settings),
        imitated=imitated,
        model=network,
        args=_training_arguments(task, settings, device=device, options=options),
        train_dataset=train_dataset,
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


def _with_states(
    dataset: Dataset, scorer: TransformerScorer, teacher: str, *, work_dir: Path, device: str
) -> tuple[Dataset, Imitated]:
    """Give each passage the places of its windows' states, and let the teacher make these."""
    windows: list[list[int]] = []
    places = []
    for passage in dataset["windows"]:
        places.append(list(range(len(windows), len(windows) + len(passage))))
        windows.extend(passage)
    imitated = read_states(
        teacher,
        scorer,
        windows,
        work_dir=work_dir,
        device=device,
        is_bf16=choose_precision(scorer.settings.precision, device) == "bf16",
    )
    return dataset.add_column("places", places), imitated


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
