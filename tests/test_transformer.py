import json

import numpy as np
import pytest
from tiny_encoders import ARCHITECTURES, SENTENCES, TOPICS

from relclass.codebook import Codebook, Topic
from relclass.config import LoraSettings, TransformerSettings
from relclass.errors import ConfigError, ModelError
from relclass.models.network import keep_best, keep_until_exit
from relclass.models.pretrained import (
    build_network,
    choose_attention,
    merge_adapters,
    parameter_groups,
)
from relclass.models.transformer import TransformerScorer

CODEBOOK = Codebook(version="1", topics=tuple(Topic(name=name, definition=name) for name in TOPICS))
LONG = " ".join(SENTENCES)
TEXTS = [*SENTENCES, LONG, "", "   "]


def make_scorer(folder, **settings) -> TransformerScorer:
    import torch

    torch.manual_seed(1)
    short = {"max_length": 32, "keep_at_least": 1}
    values = TransformerSettings(encoder=str(folder), **(short | settings))
    network, tokenizer = build_network(values, TOPICS)
    if settings.get("pooling") != "native":
        for head in (network.head, *network.exit_heads):
            torch.nn.init.normal_(head.weight)
        for weights in network.token_scorers:
            torch.nn.init.normal_(weights)
    return TransformerScorer.wrap(network.eval(), tokenizer, values)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("pooling", ["mean", "cls", "native"])
def test_a_saved_model_gives_the_same_logits(tiny_encoder, tmp_path, architecture, pooling):
    scorer = make_scorer(tiny_encoder(architecture), pooling=pooling, prefix="query: ")
    before = scorer.score(TEXTS)
    scorer.save(tmp_path)
    after = TransformerScorer.load(tmp_path, CODEBOOK).score(TEXTS)
    assert np.array_equal(before, after)
    assert not np.allclose(before[0], before[1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_passage_scores_the_same_alone_and_in_a_batch(tiny_encoder, architecture):
    scorer = make_scorer(tiny_encoder(architecture))
    together = scorer.score(TEXTS)
    alone = np.concatenate([scorer.score([text]) for text in TEXTS])
    assert np.allclose(together, alone, atol=1e-5)
    assert np.allclose(scorer.score(TEXTS[::-1])[::-1], together, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_native_pooling_leaves_a_plain_checkpoint(tiny_encoder, tmp_path, architecture):
    from transformers import pipeline

    scorer = make_scorer(
        tiny_encoder(architecture), pooling="native", max_length=64
    )  # none is windowed
    scorer.save(tmp_path)
    classify = pipeline(
        "text-classification",
        model=str(tmp_path),
        function_to_apply="sigmoid",
        top_k=None,
        device="cpu",
    )
    theirs = [{row["label"]: row["score"] for row in rows} for rows in classify(SENTENCES)]
    ours = 1 / (1 + np.exp(-scorer.score(SENTENCES)))
    expected = [[row[topic] for topic in TOPICS] for row in theirs]
    assert np.allclose(ours, expected, atol=1e-5)


def test_a_plain_checkpoint_states_that_it_is_multi_label(tiny_encoder, tmp_path):
    make_scorer(tiny_encoder("bert"), pooling="native").save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["id2label"] == {str(i): topic for i, topic in enumerate(TOPICS)}


def test_the_end_of_a_long_passage_still_counts(tiny_encoder):
    scorer = make_scorer(tiny_encoder("bert"))
    assert len(scorer.tokenize([LONG]).input_ids) > 2
    other_end = LONG + " " + " ".join(["گاز نفت"] * 20)
    assert not np.allclose(scorer.score([LONG]), scorer.score([other_end]))


def test_a_long_passage_scores_what_its_highest_window_does(tiny_encoder):
    import torch

    scorer = make_scorer(tiny_encoder("bert"))
    of_windows = []
    with torch.inference_mode():
        for window in scorer.tokenize([LONG]).input_ids:
            ids = torch.tensor([window])
            of_windows.append(scorer.network(ids, torch.ones_like(ids))[0].numpy())
    assert len(of_windows) > 2
    assert np.allclose(scorer.score([LONG])[0], np.max(of_windows, axis=0), atol=1e-4)


def test_mean_pooling_leaves_padding_out(tiny_encoder):
    import torch

    scorer = make_scorer(tiny_encoder("bert"))
    ids = torch.tensor([scorer.tokenize([SENTENCES[0]]).input_ids[0]])
    padded = torch.nn.functional.pad(ids, (0, 7), value=scorer.pad_token_id)
    with torch.inference_mode():
        plain = scorer.network(ids, torch.ones_like(ids))
        masked = scorer.network(padded, (torch.arange(padded.shape[1]) < ids.shape[1])[None].long())
        states = scorer.network.encoder(ids).last_hidden_state
        by_hand = states.mean(1) @ scorer.network.head.weight.T + scorer.network.head.bias
    assert torch.allclose(plain, masked, atol=1e-5)
    assert torch.allclose(plain, by_hand, atol=1e-5)


def test_frozen_parts_have_no_gradient(tiny_encoder):
    folder = str(tiny_encoder("bert"))
    by_freeze = {}
    for freeze in ("none", "embeddings", 1, "encoder"):
        settings = TransformerSettings(encoder=folder, freeze=freeze, max_length=32)
        network, _ = build_network(settings, TOPICS)
        by_freeze[freeze] = {n for n, p in network.named_parameters() if p.requires_grad}
    frozen = by_freeze["none"] - by_freeze["embeddings"]
    assert frozen == {"encoder.embeddings.word_embeddings.weight"}
    assert by_freeze["encoder"] == {"head.weight", "head.bias"}
    trained = {".".join(name.split(".")[:4]) for name in by_freeze[1]}
    assert trained == {"encoder.encoder.layer.1", "head.weight", "head.bias"}


def test_freezing_every_layer_is_refused(tiny_encoder):
    settings = TransformerSettings(encoder=str(tiny_encoder("bert")), freeze=2, max_length=32)
    with pytest.raises(ConfigError, match=r"model\.freeze is 2 but the encoder has 2 layers"):
        build_network(settings, TOPICS)


def test_each_layer_has_its_learning_rate(tiny_encoder):
    settings = TransformerSettings(
        encoder=str(tiny_encoder("bert")),
        learning_rate=1.0e-4,
        head_learning_rate=1.0e-2,
        layer_decay=0.5,
        max_length=32,
    )
    network, _ = build_network(settings, TOPICS)
    rate_of = {}
    for group in parameter_groups(network, settings):
        for parameter in group["params"]:
            rate_of[id(parameter)] = (group["lr"], group["weight_decay"])
    by_name = {n: rate_of.get(id(p)) for n, p in network.named_parameters()}
    assert by_name["head.weight"] == (1.0e-2, 0.01)
    assert by_name["head.bias"] == (1.0e-2, 0.0)
    assert by_name["encoder.encoder.layer.1.output.dense.weight"] == (1.0e-4, 0.01)
    assert by_name["encoder.encoder.layer.0.output.dense.weight"] == (0.5e-4, 0.01)
    assert by_name["encoder.embeddings.position_embeddings.weight"] == (0.25e-4, 0.01)
    assert by_name["encoder.embeddings.word_embeddings.weight"] is None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_adapters_are_merged_into_the_weights_they_adapt(tiny_encoder, architecture):
    import torch

    settings = TransformerSettings(
        encoder=str(tiny_encoder(architecture)), lora=LoraSettings(rank=2), max_length=32
    )
    network, tokenizer = build_network(settings, TOPICS)
    trained = {n for n, p in network.named_parameters() if p.requires_grad}
    assert all("lora" in name or name.startswith("head") for name in trained)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)  # larger, and rounding is amplified
        for head in (network.head, *network.exit_heads):
            torch.nn.init.normal_(head.weight)
    scorer = TransformerScorer.wrap(network.eval(), tokenizer, settings)
    before = scorer.score(SENTENCES)
    merge_adapters(network)
    assert not [name for name in network.state_dict() if "lora" in name]
    assert np.allclose(scorer.score(SENTENCES), before, atol=1e-4)


def test_a_prefix_longer_than_the_limit_is_refused(tiny_encoder):
    with pytest.raises(ConfigError, match=r"model\.max_length: Got max_length 8"):
        make_scorer(tiny_encoder("bert"), max_length=8, prefix=LONG)


def test_a_model_folder_without_its_head_is_refused(tiny_encoder, tmp_path):
    make_scorer(tiny_encoder("bert")).save(tmp_path)
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load the transformer"):
        TransformerScorer.load(tmp_path, CODEBOOK)


def test_a_head_of_other_topics_is_refused(tiny_encoder, tmp_path):
    make_scorer(tiny_encoder("bert")).save(tmp_path)
    fewer = Codebook(version="1", topics=CODEBOOK.topics[:2])
    with pytest.raises(ModelError, match="cannot load the transformer"):
        TransformerScorer.load(tmp_path, fewer)


def test_attention_is_eager_on_a_cpu_unless_told():
    assert choose_attention("auto", "cpu") == "eager"
    assert choose_attention("auto", "cuda") is None
    assert choose_attention("sdpa", "cpu") == "sdpa"


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta"])
def test_a_student_keeps_the_layers_asked_for(tiny_encoder, tmp_path, architecture):
    whole = make_scorer(tiny_encoder(architecture)).network.encoder
    student = make_scorer(tiny_encoder(architecture), layers=1, activation="relu")
    encoder = student.network.encoder
    assert len(encoder.encoder.layer) == encoder.config.num_hidden_layers == 1
    kept, last = encoder.encoder.layer[0].state_dict(), whole.encoder.layer[-1].state_dict()
    assert all((kept[name] == last[name]).all() for name in last)
    student.save(tmp_path)
    again = TransformerScorer.load(tmp_path, CODEBOOK)
    assert np.array_equal(again.score(TEXTS), student.score(TEXTS))
    assert not np.allclose(make_scorer(tiny_encoder(architecture)).score(TEXTS), again.score(TEXTS))


def test_a_student_keeps_just_the_layers_named(tiny_encoder):
    whole = make_scorer(tiny_encoder("bert")).network.encoder
    encoder = make_scorer(tiny_encoder("bert"), layers=(1,)).network.encoder
    assert len(encoder.encoder.layer) == encoder.config.num_hidden_layers == 1
    kept, first = encoder.encoder.layer[0].state_dict(), whole.encoder.layer[0].state_dict()
    assert all((kept[name] == first[name]).all() for name in first)


def test_another_activation_changes_the_feed_forward_parts(tiny_encoder):
    plain, relu = (
        make_scorer(tiny_encoder("bert"), activation=activation).score(TEXTS)
        for activation in (None, "relu")
    )
    assert not np.allclose(plain, relu)


def test_an_exit_reads_the_states_of_its_layer(tiny_encoder, tmp_path):
    import torch

    scorer = make_scorer(tiny_encoder("bert"), exits=(1,))
    ids = torch.tensor(scorer.tokenize(["خط لوله"]).input_ids)
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        early, last = scorer.network(ids, mask, with_exits=True)
        states = scorer.network.encoder(ids, mask, output_hidden_states=True).hidden_states[1]
    head = scorer.network.exit_heads[0]
    expected = states.mean(1) @ head.weight.T + head.bias
    assert torch.allclose(early, expected, atol=1e-5)
    assert torch.allclose(last, scorer.network(ids, mask), atol=1e-6)
    scorer.save(tmp_path)
    again = TransformerScorer.load(tmp_path, CODEBOOK)
    with torch.inference_mode():
        assert torch.equal(again.network(ids, mask, with_exits=True)[0], early)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 3}, "model.layers is 3 but the encoder has 2"),
        ({"layers": (1, 3)}, "model.layers is .1, 3.: expected ascending layers from 1 to 2"),
        ({"layers": (2, 1)}, "model.layers is .2, 1.: expected ascending layers"),
        ({"layers": ()}, "model.layers is ..: expected ascending layers"),
        ({"exits": (2,)}, "expected ascending layers from 1 to 1"),
        ({"keep_tokens": {2: 0.5}}, "model.keep_tokens is .2: 0.5.: expected ascending layers"),
        ({"exits": (1, 1)}, "expected ascending layers from 1 to 1"),
        ({"exits": (1,), "pooling": "native"}, "neither a native head nor adapters"),
    ],
)
def test_layers_and_exits_that_are_not_there_are_refused(tiny_encoder, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_scorer(tiny_encoder("bert"), **settings)


def test_the_first_token_and_those_of_the_highest_scores_are_kept():
    import torch

    states = torch.arange(2.0 * 5 * 3).reshape(2, 5, 3)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    scores = torch.tensor([[-5.0, 1, 3, 0, 2], [-5.0, 1, 2, 9, 9]])
    kept, left = keep_best(states, mask, scores, torch.tensor([3, 2]))
    assert torch.equal(left, torch.tensor([[1, 1, 1], [1, 1, 0]]))
    assert torch.equal(kept[0], states[0, [0, 2, 4]])
    assert torch.equal(kept[1, :2], states[1, [0, 2]])  # no padding, however high it scores


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_which_tokens_go_on_does_not_depend_on_the_padding(
    tiny_encoder, tmp_path, architecture, pooling
):
    settings = {"exits": (1,), "keep_tokens": {1: 0.4}, "pooling": pooling}
    scorer = make_scorer(tiny_encoder(architecture), **settings)
    whole = make_scorer(tiny_encoder(architecture), pooling=pooling)
    assert not np.allclose(scorer.score(TEXTS), whole.score(TEXTS))
    alone = np.concatenate([scorer.score([text]) for text in TEXTS])
    assert np.allclose(scorer.score(TEXTS), alone, atol=1e-4)
    scorer.save(tmp_path)
    again = TransformerScorer.load(tmp_path, CODEBOOK)
    assert np.array_equal(again.score(TEXTS), scorer.score(TEXTS))


@pytest.mark.parametrize(
    ("share", "at_least", "expected"), [(0.01, 1, 1), (0.99, 1, 21), (0.01, 12, 12), (0.5, 32, 21)]
)
def test_so_many_tokens_go_on_and_a_part_counts_as_one(tiny_encoder, share, at_least, expected):
    import torch

    scorer = make_scorer(tiny_encoder("bert"), keep_tokens={1: share}, keep_at_least=at_least)
    read = []
    scorer.network.encoder.encoder.layer[1].register_forward_pre_hook(
        lambda module, inputs: read.append(inputs[0].shape[1])
    )
    assert len(scorer.tokenize(TEXTS[:1]).input_ids[0]) == 21
    assert torch.isfinite(torch.from_numpy(scorer.score(TEXTS[:1]))).all()
    assert read == [expected]


def test_a_network_cut_at_its_exit_gives_what_the_exit_gave(tiny_encoder):
    import torch

    scorer = make_scorer(tiny_encoder("bert"), exits=(1,), keep_tokens={1: 0.5})
    ids = torch.tensor(scorer.tokenize(["خط لوله"]).input_ids)
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        early = scorer.network(ids, mask, with_exits=True)[0]
        keep_until_exit(scorer.network)
        assert torch.allclose(scorer.network(ids, mask), early, atol=1e-6)
    assert scorer.network.encoder.config.num_hidden_layers == 1
    assert scorer.network.keep_tokens == {}
    assert not scorer.network.token_scorers


@pytest.mark.parametrize("settings", [{}, {"pooling": "cls"}, {"exits": (1,)}])
def test_a_network_in_bfloat16_gives_nearly_what_it_gives_in_float(tiny_encoder, settings):
    import torch

    scorer = make_scorer(tiny_encoder("bert"), **settings)
    exact = scorer.score(TEXTS)
    scorer.network.to(dtype=torch.bfloat16)
    assert np.abs(scorer.score(TEXTS) - exact).max() < 0.1


def test_tokens_are_dropped_in_bfloat16_too(tiny_encoder):
    import torch

    scorer = make_scorer(tiny_encoder("bert"), keep_tokens={1: 0.5})
    exact = scorer.score(TEXTS)
    scorer.network.to(dtype=torch.bfloat16)
    # another token goes on where two are worth nearly the same
    assert np.median(np.abs(scorer.score(TEXTS) - exact).max(axis=1)) < 0.1


@pytest.mark.parametrize(("key", "value"), [("exits", (1,)), ("keep_tokens", {1: 0.5})])
def test_layers_that_take_more_than_states_and_a_mask_have_no_exits(tiny_encoder, key, value):
    with pytest.raises(ConfigError, match=rf"model\.{key}: not known for .* 'deberta-v2'"):
        make_scorer(tiny_encoder("deberta-v2"), **{key: value})
