import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny_encoders import SENTENCES, TOPICS

from relclass.calibration import Calibration
from relclass.codebook import Codebook, Topic
from relclass.config import AS_READ, LoraSettings, TransformerSettings
from relclass.errors import ConfigError
from relclass.examples import Examples
from relclass.models import finetuning
from relclass.models.base import Classifier
from relclass.models.finetuning import (
    FineTuning,
    choose_precision,
    finetune,
    last_checkpoint,
    resolve_device,
)
from relclass.models.store import save_model
from relclass.models.topic_trainer import LengthSampler, topic_loss
from relclass.run_folder import RunOptions

TEXTS = [*SENTENCES * 2, " ".join(SENTENCES)]
CPU = RunOptions(device="cpu")


def make_examples() -> Examples:
    y_true = np.zeros((len(TEXTS), len(TOPICS)), dtype=np.float32)
    # a sentence that comes twice has the same topic twice
    y_true[np.arange(len(TEXTS)), np.arange(len(TEXTS)) % len(SENTENCES) % 4] = 1
    return Examples(TEXTS, y_true, np.ones_like(y_true))


def make_settings(folder, **settings) -> TransformerSettings:
    small = {"max_length": 24, "epochs": 2, "batch_size": 4, "precision": "fp32"}
    return TransformerSettings(encoder=str(folder), **(small | settings))


def fit(folder, work_dir, *, options=CPU, examples=None, **settings):
    examples = make_examples() if examples is None else examples
    task = FineTuning(examples, examples, TOPICS, work_dir, seed=3)
    return finetune(task, make_settings(folder, **settings), options=options)


def test_a_network_learns_passages_by_heart(tiny_encoder, tmp_path):
    settings = {"epochs": 60, "learning_rate": 3e-3, "head_learning_rate": 3e-2}
    scorer = fit(tiny_encoder("bert"), tmp_path, freeze="none", **settings)
    examples = make_examples()
    n = len(SENTENCES)
    assert np.array_equal(scorer.score(TEXTS[:n]).argmax(1), examples.y_true[:n].argmax(1))


def test_training_leaves_the_processors_arithmetic_as_it_was(tiny_encoder, tmp_path):
    fit(tiny_encoder("bert"), tmp_path, epochs=1)
    assert 5e-324 * 1.0 > 0  # a denormal number, which a flushing processor makes zero


def test_the_average_of_the_weights_is_what_comes_out(tiny_encoder, tmp_path):
    last, averaged = (
        fit(tiny_encoder("bert"), tmp_path / str(decay), average_decay=decay).score(TEXTS)
        for decay in (None, 0.9)
    )
    assert np.abs(last - averaged).max() > 1e-4


def test_the_same_seed_gives_the_same_weights(tiny_encoder, tmp_path):
    logits = [
        fit(tiny_encoder("bert"), tmp_path / name, encoder_dropout=0.1).score(TEXTS)
        for name in ("one", "two")
    ]
    assert np.array_equal(*logits)


@pytest.mark.parametrize(("stop_at", "is_rounded"), [(3, False), (6, False), (9, False), (9, True)])
def test_a_run_broken_off_at_any_step_ends_with_the_same_weights(
    tiny_encoder, tmp_path, monkeypatch, stop_at, is_rounded
):
    folder = tiny_encoder("bert")
    settings = {
        "encoder_dropout": 0.1,
        "gradient_accumulation_steps": 1,
        "round_activations": is_rounded,
    }
    options = RunOptions(device="cpu", checkpoint_steps=2)
    whole = fit(folder, tmp_path / "whole", options=options, **settings)

    step = finetuning.TopicTrainer.training_step

    def break_off(self, *arguments):
        if self.state.global_step == stop_at:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(finetuning.TopicTrainer, "training_step", break_off)
        with pytest.raises(KeyboardInterrupt):
            fit(folder, tmp_path / "broken", options=options, **settings)
    assert last_checkpoint(tmp_path / "broken").name == f"checkpoint-{stop_at // 2 * 2}"
    resumed = fit(folder, tmp_path / "broken", options=options, **settings)
    assert np.array_equal(resumed.score(TEXTS), whole.score(TEXTS))


_KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import torch; torch.set_num_threads(1)
import test_finetuning as t
from relclass.models import finetuning
from relclass.models.base import Classifier
step = finetuning.TopicTrainer.training_step
def slow(self, *arguments):
    print("step", self.state.global_step, flush=True)
    if self.state.global_step == 5:
        time.sleep(600)
    return step(self, *arguments)
finetuning.TopicTrainer.training_step = slow
options = t.RunOptions(device="cpu", checkpoint_steps=2)
t.fit(Path(sys.argv[1]), Path(sys.argv[2]), options=options, encoder_dropout=0.1)
"""


@pytest.mark.slow
def test_a_killed_process_is_resumed_to_the_same_weights(tiny_encoder, tmp_path):
    folder = tiny_encoder("bert")
    options = RunOptions(device="cpu", checkpoint_steps=2)
    whole = fit(folder, tmp_path / "whole", options=options, encoder_dropout=0.1)
    arguments = [str(folder), str(tmp_path / "killed"), os.path.dirname(__file__)]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _KILLED, *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.strip() == "step 5":
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed = fit(folder, tmp_path / "killed", options=options, encoder_dropout=0.1)
    assert np.array_equal(resumed.score(TEXTS), whole.score(TEXTS))


def test_half_a_checkpoint_is_passed_over(tmp_path):
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-2" / "complete").write_text("")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    assert not (tmp_path / "checkpoint-4").exists()
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_adapters_are_trained_and_merged(tiny_encoder, tmp_path):
    settings = {"lora": LoraSettings(rank=2), "learning_rate": 1e-2}
    scorer = fit(tiny_encoder("bert"), tmp_path, **settings)
    assert not [name for name in scorer.network.state_dict() if "lora" in name]


def test_early_stopping_keeps_the_best_epoch(tiny_encoder, tmp_path):
    scorer = fit(tiny_encoder("bert"), tmp_path, epochs=8, early_stopping_patience=1)
    history = finetuning.read_history(tmp_path)
    scores = [row["eval_macro_f1"] for row in history if "eval_macro_f1" in row]
    assert len(scores) < 8
    assert scorer.score(TEXTS).shape == (len(TEXTS), 4)


def test_a_loss_that_is_no_number_stops_the_run(tiny_encoder, tmp_path):
    examples = make_examples()
    examples.weights[5] = np.nan
    with pytest.raises(ConfigError, match=r"the loss became nan at step \d+: lower model\.learn"):
        fit(tiny_encoder("bert"), tmp_path, examples=examples)


@pytest.mark.parametrize("error", ["torch", "host"])
def test_too_little_memory_names_the_key_to_lower(tiny_encoder, tmp_path, monkeypatch, error):
    import torch

    raised = {
        "torch": torch.OutOfMemoryError("CUDA out of memory"),
        "host": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    }

    def fail(self, *arguments, **named):
        raise raised[error]

    monkeypatch.setattr(finetuning.TopicTrainer, "compute_loss", fail)
    with pytest.raises(ConfigError, match=r"out of memory at step 0: lower model\.batch_size"):
        fit(tiny_encoder("bert"), tmp_path)


def test_other_errors_of_torch_pass_as_they_are(tiny_encoder, tmp_path, monkeypatch):
    def fail(self, *arguments, **named):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(finetuning.TopicTrainer, "compute_loss", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit(tiny_encoder("bert"), tmp_path)


def test_the_loss_is_the_weighted_cross_entropy_by_hand():
    import torch

    logits = torch.tensor([[0.0, 2.0]])
    targets, weights = torch.tensor([[1.0, 0.3]]), torch.tensor([[1.0, 0.5]])
    p = 1 / (1 + np.exp(-2.0))
    by_hand = (np.log(2) + 0.5 * -(0.3 * np.log(p) + 0.7 * np.log(1 - p))) / 2
    assert topic_loss(logits, targets, weights).item() == pytest.approx(by_hand, rel=1e-5)


def test_positives_weigh_more_when_told_by_hand():
    import torch

    ones = torch.ones(1, 1)
    plain = topic_loss(torch.zeros(1, 1), ones, ones)
    double = topic_loss(torch.zeros(1, 1), ones, ones, positive_weight=torch.tensor([2.0]))
    assert double.item() == pytest.approx(2 * plain.item())


def test_smoothing_draws_targets_towards_one_half_by_hand():
    import torch

    logits, ones = torch.tensor([[1.0]]), torch.ones(1, 1)
    smooth = topic_loss(logits, ones, ones, label_smoothing=0.2)
    by_hand = topic_loss(logits, torch.tensor([[0.9]]), ones)
    assert smooth.item() == pytest.approx(by_hand.item())


def test_an_epoch_shows_each_passage_once_in_batches_of_like_length():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 200, 1000)
    sampler = LengthSampler(lengths, batch_size=10, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(1000))
    assert len(sampler) == 1000
    spread = np.ptp(lengths[first].reshape(-1, 10), axis=1)
    assert spread.mean() < 20
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_an_incomplete_batch_comes_last():
    sampler = LengthSampler(np.arange(25), batch_size=4, seed=0)
    last = list(sampler)[-1]
    assert last == 24


def test_devices_and_precisions_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="torch sees no GPU; use --device cpu"):
        resolve_device("cuda")
    with pytest.raises(ConfigError, match="device 'tpu': expected auto, cpu or cuda"):
        resolve_device("tpu")
    with pytest.raises(ConfigError, match=r"model\.precision fp16 needs a GPU"):
        choose_precision("fp16", "cpu")
    assert choose_precision("bf16", "cpu") == "bf16"
    assert choose_precision("auto", "cpu") in {"bf16", "fp32"}


def test_every_exit_learns_too(tiny_encoder, tmp_path):
    import torch

    settings = {"epochs": 60, "learning_rate": 3e-3, "head_learning_rate": 3e-2}
    scorer = fit(tiny_encoder("bert"), tmp_path, freeze="none", exits=(1,), **settings)
    examples = make_examples()
    n = len(SENTENCES)
    right = []
    for text in TEXTS[:n]:
        ids = torch.tensor(scorer.tokenize([text]).input_ids)
        with torch.inference_mode():
            early, last = scorer.network(ids, torch.ones_like(ids), with_exits=True)
        right.append([logits.amax(0).argmax().item() for logits in (early, last)])
    expected = examples.y_true[:n].argmax(1)
    assert np.array_equal(np.array(right), np.stack([expected, expected], axis=1))


@pytest.fixture
def taught(tiny_encoder, tmp_path):
    """Give a model folder with a fitted head, and its scorer."""
    settings = {"epochs": 20, "head_learning_rate": 3e-2}
    scorer = fit(tiny_encoder("bert"), tmp_path / "work", **settings)
    topics = tuple(Topic(name=name, definition=name) for name in TOPICS)
    classifier = Classifier(
        name="taught",
        codebook=Codebook(version="1", topics=topics),
        scorer=scorer,
        normalize=AS_READ,
        calibration=Calibration("none"),
        thresholds=np.full(len(TOPICS), 0.5),
    )
    save_model(classifier, tmp_path / "taught")
    return tmp_path / "taught", scorer


def test_a_head_that_is_kept_goes_on_from_where_it_was(taught, tmp_path):
    folder, scorer = taught
    still = {"learning_rate": 1e-12, "head_learning_rate": 1e-12, "epochs": 1}
    kept = fit(folder, tmp_path / "kept", keep_head=True, **still)
    np.testing.assert_allclose(kept.score(TEXTS), scorer.score(TEXTS), atol=1e-4)
    new = fit(folder, tmp_path / "new", **still)
    assert np.abs(new.score(TEXTS) - scorer.score(TEXTS)).max() > 0.1


def test_a_head_that_is_not_there_cannot_be_kept(taught, tiny_encoder, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.keep_head: .* leave keep_head out"):
        fit(tiny_encoder("bert"), tmp_path / "a", keep_head=True)
    with pytest.raises(ConfigError, match="has no head for the topics"):
        fit(taught[0], tmp_path / "b", keep_head=True, pooling="native")


@pytest.mark.parametrize(("there", "taken"), [(0, 0), (1, 1), (2, 1)])
def test_a_process_takes_one_gpu_of_several(tmp_path, monkeypatch, there, taken):
    monkeypatch.setattr("transformers.TrainingArguments.n_gpu", property(lambda self: there))
    task = FineTuning(make_examples(), make_examples(), TOPICS, tmp_path)
    arguments = finetuning._training_arguments(task, make_settings("x"), device="cpu", options=CPU)
    assert arguments.n_gpu == taken
