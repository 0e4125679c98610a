import os
import sys
from types import SimpleNamespace

import pytest
from batch_stubs import TOPICS, make_classifier, save_lexicon_model

from relclass import loading
from relclass.errors import ConfigError, MissingExtraError, ModelError
from relclass.loading import choose_device, load_classifier, model_reference
from relclass.models.onnx import THREADS_VARIABLE


def fake_torch(*, cuda, mps):
    return SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: cuda),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
        bfloat16="bf16",
        float16="fp16",
    )


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_a_network_of_torch_takes_the_gpu_that_is_there(monkeypatch, cuda, mps, expected):
    monkeypatch.setitem(sys.modules, "torch", fake_torch(cuda=cuda, mps=mps))
    assert choose_device("auto", "transformer") == expected
    assert choose_device("cpu", "transformer") == "cpu"


@pytest.mark.parametrize("kind", ["lexicon", "baseline", "onnx"])
def test_other_models_stay_on_the_cpu_unless_asked(kind):
    assert choose_device("auto", kind) == "cpu"


def test_onnx_runs_on_cuda_where_onnxruntime_has_it(monkeypatch):
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)
    assert choose_device("cuda", "onnx") == "cuda"
    with pytest.raises(ConfigError, match="--device mps: not to be had here: onnxruntime"):
        choose_device("mps", "onnx")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("lexicon", "a model of kind 'lexicon' runs on the CPU alone"),
        ("onnx", "CUDA needs onnxruntime-gpu"),
        ("transformer", "torch finds none"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused_with_the_reason(monkeypatch, kind, message):
    monkeypatch.setitem(sys.modules, "torch", fake_torch(cuda=False, mps=False))
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ConfigError, match=message):
        choose_device("cuda", kind)


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"\.\[train\]"):
        choose_device("auto", "transformer")


class Network:
    def to(self, device, dtype):
        self.place = (device, dtype)


@pytest.mark.parametrize(("device", "dtype"), [("cuda", "bf16"), ("mps", "fp16")])
def test_a_network_of_torch_is_moved_and_halved(monkeypatch, device, dtype):
    scorer = SimpleNamespace(kind="transformer", network=Network())
    monkeypatch.setitem(sys.modules, "torch", fake_torch(cuda=True, mps=True))
    monkeypatch.setattr(loading.store, "load_model", lambda model: make_classifier(scorer))
    load_classifier("m", device=device)
    assert scorer.network.place == (device, dtype)


def test_an_onnx_session_is_given_the_cuda_provider(monkeypatch):
    given = []
    session = SimpleNamespace(set_providers=given.extend)
    scorer = SimpleNamespace(kind="onnx", session=session, student=None)
    monkeypatch.setattr(loading.store, "load_model", lambda model: make_classifier(scorer))
    load_classifier("m", device="cpu")
    assert given == []
    load_classifier("m", device="cuda")
    assert given == ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize("before", [None, "7"])
def test_threads_hold_while_the_model_is_loaded_and_no_longer(monkeypatch, before):
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    if before is not None:
        monkeypatch.setenv(THREADS_VARIABLE, before)
    seen = []

    def load(model):
        seen.append(os.environ.get(THREADS_VARIABLE))
        return make_classifier()

    monkeypatch.setattr(loading.store, "load_model", load)
    load_classifier("m", device="cpu", n_threads=3)
    load_classifier("m", device="cpu")
    assert seen == ["3", before]
    assert os.environ.get(THREADS_VARIABLE) == before


def test_a_model_is_known_without_its_weights(tmp_path):
    model = save_lexicon_model(tmp_path / "m", name="tiny")
    reference = model_reference(model)
    assert (reference.source, reference.name, reference.kind) == (model, "tiny", "lexicon")
    assert reference.topics == TOPICS
    other = save_lexicon_model(tmp_path / "n", name="tiny", words=dict.fromkeys(TOPICS, "word"))
    assert model_reference(other).sha256 != reference.sha256
    assert model_reference(save_lexicon_model(tmp_path / "o", name="tiny")).sha256 == (
        reference.sha256
    )


def test_a_model_that_is_not_there_is_refused():
    with pytest.raises(ModelError, match="no such directory, and not a shipped model"):
        model_reference("no-such-model")
