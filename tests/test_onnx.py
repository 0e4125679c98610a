import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from test_transformer import CODEBOOK, TEXTS, make_scorer
from tiny_encoders import ARCHITECTURES, SENTENCES, TOPICS

from relclass.codebook import Codebook
from relclass.errors import ModelError
from relclass.models.export import (
    ExportSettings,
    build_vocabulary,
    export_scorer,
    trim_network,
)
from relclass.models.onnx import OnnxScorer, count_threads, open_session, overflows
from relclass.models.vocabulary import TrimmedVocabulary


@pytest.fixture(scope="module")
def exported(tiny_encoder, tmp_path_factory):
    """Give a torch scorer and its int8 export, once for each architecture."""
    root = tmp_path_factory.mktemp("exported")
    corpus = root / "corpus.txt"
    corpus.write_text("\n".join(SENTENCES[:8]), encoding="utf-8")
    made = {}

    def of(architecture, pooling="mean"):
        key = (architecture, pooling)
        if key not in made:
            scorer = make_scorer(tiny_encoder(architecture), pooling=pooling, prefix="query: ")
            folder = root / "-".join(key)
            folder.mkdir()
            settings = ExportSettings(corpus=(corpus,))
            export_scorer(scorer, TOPICS, folder, settings, texts=TEXTS)
            made[key] = scorer, OnnxScorer.load(folder, CODEBOOK, threads=1)
        return made[key]

    return of


def probabilities(logits):
    return 1 / (1 + np.exp(-logits))


CASES = [(architecture, "mean") for architecture in ARCHITECTURES] + [("bert", "native")]


@pytest.mark.parametrize(("architecture", "pooling"), CASES)
def test_int8_gives_nearly_the_probabilities_of_torch(exported, architecture, pooling):
    scorer, small = exported(architecture, pooling)
    difference = np.abs(probabilities(scorer.score(TEXTS)) - probabilities(small.score(TEXTS)))
    assert np.median(difference) <= 0.02
    assert difference.max() <= 0.1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_passage_does_not_depend_on_its_batch(exported, architecture):
    _, small = exported(architecture)
    together = small.score(TEXTS)
    alone = np.concatenate([small.score([text]) for text in TEXTS])
    assert np.allclose(together, alone, atol=1e-4)
    assert np.allclose(small.score(TEXTS[::-1])[::-1], together, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_vocabulary_is_smaller_and_the_windows_the_same(exported, architecture):
    scorer, small = exported(architecture)
    assert small.tokenizer.get_vocab_size() < len(scorer.tokenizer)
    ours, theirs = small.tokenize(SENTENCES[:8]), scorer.tokenize(SENTENCES[:8])
    assert np.array_equal(ours.lengths, theirs.lengths)
    assert np.array_equal(ours.passage, theirs.passage)


def test_saving_and_loading_changes_nothing(exported, tmp_path):
    _, small = exported("bert")
    small.save(tmp_path)
    assert np.array_equal(OnnxScorer.load(tmp_path, CODEBOOK).score(TEXTS), small.score(TEXTS))


def test_exact_products_are_taken_where_the_fast_ones_overflow(exported, tmp_path, monkeypatch):
    _, small = exported("bert")
    small.save(tmp_path)
    opened = []

    def note(path, rest=b"", *, is_exact=False):
        opened.append((path.name, is_exact))
        return open_session(path, rest, is_exact=is_exact)

    monkeypatch.setattr("relclass.models.onnx.open_session", note)
    monkeypatch.setattr("relclass.models.onnx.overflows", lambda probe: True)
    exact = OnnxScorer.load(tmp_path, CODEBOOK, threads=1)
    assert opened == [("model.onnx", True)]
    if not overflows(tmp_path / "overflow.onnx"):
        assert np.allclose(exact.score(TEXTS), small.score(TEXTS), atol=1e-4)


def test_a_processor_that_overflows_is_known_by_a_wrong_product(exported, monkeypatch):
    probe = exported("bert")[1].model_dir / "overflow.onnx"

    class Saturating:
        def __init__(self, session):
            self.get_inputs, self.whole = session.get_inputs, session

        def run(self, names, values):
            return [self.whole.run(names, values)[0] / 2]

    session = open_session(probe, is_exact=True)
    monkeypatch.setattr("relclass.models.onnx.open_session", lambda path: session)
    assert not overflows(probe)
    monkeypatch.setattr("relclass.models.onnx.open_session", lambda path: Saturating(session))
    assert overflows(probe)


def test_a_folder_of_before_the_probe_still_loads(exported, tmp_path, monkeypatch):
    exported("bert")[1].save(tmp_path)
    monkeypatch.setattr("relclass.models.onnx.overflows", lambda probe: False)
    fast = OnnxScorer.load(tmp_path, CODEBOOK, threads=1)
    (tmp_path / "overflow.onnx").unlink()
    older = OnnxScorer.load(tmp_path, CODEBOOK, threads=1)
    (tmp_path / "again").mkdir()
    older.save(tmp_path / "again")
    assert not (tmp_path / "again" / "overflow.onnx").exists()
    assert np.array_equal(older.score(TEXTS), fast.score(TEXTS))


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta"])
def test_slow_fusions_are_taken_apart_and_fast_ones_kept(exported, architecture):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported(architecture)[1].model_dir / "model.onnx")
    kinds = [node.op_type for node in model.graph.node]
    assert "SkipLayerNormalization" not in kinds
    assert kinds.count("LayerNormalization") > 2
    assert {"BiasGelu", "MultiHeadAttention", "MatMulIntegerToFloat"} <= set(kinds)


def test_every_matrix_of_the_layers_is_in_int8(exported):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported("bert")[1].model_dir / "model.onnx")
    floats = [
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2
    ]
    assert all("embeddings" in name or "head" in name for name in floats), floats


def test_prediction_needs_no_torch(exported):
    import subprocess
    import sys

    _, small = exported("bert")
    code = (
        "import sys; from pathlib import Path; from relclass.models.onnx import OnnxScorer;"
        "from types import SimpleNamespace;"
        f"c = SimpleNamespace(names={TOPICS!r});"
        "s = OnnxScorer.load(Path(sys.argv[1]), c, threads=1); s.score(['x']);"
        "print(sorted({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(small.model_dir)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "onnx.json"])
def test_a_missing_or_damaged_file_is_refused(exported, tmp_path, name):
    folder = shutil.copytree(exported("bert")[1].model_dir, tmp_path / "model")
    (folder / name).write_text("{")
    with pytest.raises(ModelError, match="cannot load the ONNX model"):
        OnnxScorer.load(folder, CODEBOOK)
    (folder / name).unlink()
    with pytest.raises(ModelError, match="cannot load the ONNX model"):
        OnnxScorer.load(folder, CODEBOOK)


def test_a_codebook_of_other_topics_is_refused(exported):
    folder = exported("bert")[1].model_dir
    reordered = Codebook(version="1", topics=CODEBOOK.topics[::-1])
    with pytest.raises(ModelError, match="the network gives the topics"):
        OnnxScorer.load(folder, reordered)


def test_the_settings_hold_what_prediction_replays(exported):
    settings = json.loads((exported("xlm-roberta")[1].model_dir / "onnx.json").read_text())
    assert settings["topics"] == list(TOPICS)
    assert settings["prefix"] == "query: "
    assert settings["pad_token_id"] == 1


def test_several_threads_give_what_one_gives(exported):
    scorer = exported("bert")[1]
    texts = [*SENTENCES, " ".join(SENTENCES)] * 30
    together = replace(scorer, n_threads=3).score(texts)
    np.testing.assert_array_equal(together, replace(scorer, n_threads=1).score(texts))


def test_threads_come_from_the_argument_or_the_environment(monkeypatch):
    monkeypatch.delenv("RELCLASS_THREADS", raising=False)
    monkeypatch.setattr("relclass.models.onnx.available_cores", lambda: 6)
    assert (count_threads(3), count_threads(None)) == (3, 6)
    monkeypatch.setenv("RELCLASS_THREADS", "2")
    assert count_threads(None) == 2
    monkeypatch.setenv("RELCLASS_THREADS", "many")
    with pytest.raises(ModelError, match=r"\$RELCLASS_THREADS is 'many'"):
        count_threads(None)


def test_no_text_to_measure_on_is_refused(tiny_encoder, tmp_path):
    scorer = make_scorer(tiny_encoder("bert"))
    with pytest.raises(ModelError, match="export needs texts to measure the activations on"):
        export_scorer(scorer, TOPICS, tmp_path, ExportSettings(), texts=[])


@pytest.fixture(scope="module")
def taught(tiny_encoder, tmp_path_factory):
    """Give a torch scorer, its student in torch, and the export of both."""
    folder = tmp_path_factory.mktemp("taught")
    encoder = tiny_encoder("xlm-roberta")
    scorer = make_scorer(encoder, prefix="query: ")
    student = make_scorer(encoder, prefix="query: ", layers=1, activation="relu")
    student.network.head.weight.data.neg_()  # so that the two plainly differ
    settings = ExportSettings()
    export_scorer(scorer, TOPICS, folder, settings, texts=TEXTS, student=student)
    return scorer, student, OnnxScorer.load(folder, CODEBOOK, threads=1)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_student_gives_what_it_settles_and_the_network_the_rest(taught, n_threads, monkeypatch):
    monkeypatch.setattr("relclass.models.onnx._MAX_TOKENS", 64)  # several batches
    scorer, student, small = taught
    texts = [*TEXTS, SENTENCES[0].split()[0]]
    settled = np.arange(len(texts)) % 3 == 0
    asked = []

    def settles(logits):
        asked.append(logits.copy())
        return settled

    given = replace(small, n_threads=n_threads).score_cascaded(texts, settles)
    by_student, by_network = student.score(texts), scorer.score(texts)
    assert np.abs(by_student - by_network).max() > 1
    assert np.abs(probabilities(asked[0]) - probabilities(by_student)).max() < 0.05
    expected = np.where(settled[:, None], by_student, by_network)
    assert np.abs(probabilities(given) - probabilities(expected)).max() < 0.05
    rest = [text for text, is_settled in zip(texts, settled, strict=True) if not is_settled]
    assert np.allclose(given[~settled], small.score(rest), atol=1e-4)


def test_all_may_be_settled_or_none(taught):
    _, student, small = taught
    none = small.score_cascaded(TEXTS, lambda logits: np.zeros(len(logits), dtype=bool))
    assert np.allclose(none, small.score(TEXTS), atol=1e-4)
    everything = small.score_cascaded(TEXTS, lambda logits: np.ones(len(logits), dtype=bool))
    by_student = probabilities(student.score(TEXTS))
    assert np.abs(probabilities(everything) - by_student).max() < 0.02
    assert np.abs(everything - none).max() > 1


def test_a_network_and_its_student_are_saved_whole(taught, tmp_path):
    *_, small = taught
    small.save(tmp_path)
    again = OnnxScorer.load(tmp_path, CODEBOOK, threads=1)
    assert again.student_share == small.student_share == 0.5
    assert np.array_equal(again.score(TEXTS), small.score(TEXTS))
    (tmp_path / "embeddings.onnx").unlink()
    with pytest.raises(ModelError, match="cannot load the ONNX model"):
        OnnxScorer.load(tmp_path, CODEBOOK)


@pytest.mark.parametrize(("at_least", "expected"), [(1, 0.5 / 0.7), (1000, 0.5)])
def test_what_a_student_costs_counts_the_tokens_that_both_drop(
    tiny_encoder, tmp_path, at_least, expected
):
    dropping = {"keep_tokens": {1: 0.4}, "keep_at_least": at_least}
    scorer = make_scorer(tiny_encoder("bert"), **dropping)
    student = make_scorer(tiny_encoder("bert"), layers=1)
    texts = [" ".join(SENTENCES * 3)] * 8  # long: rounding a share up is next to nothing
    export_scorer(scorer, TOPICS, tmp_path, ExportSettings(), texts=texts, student=student)
    settings = json.loads((tmp_path / "onnx.json").read_text())
    assert settings["student_share"] == pytest.approx(expected, abs=0.01)


def test_without_a_student_there_is_no_cascade(exported):
    _, small = exported("bert")
    with pytest.raises(ModelError, match=r"no student.onnx"):
        small.score_cascaded(TEXTS, lambda logits: np.ones(len(logits), dtype=bool))


def test_a_student_of_other_windows_is_refused(tiny_encoder, tmp_path):
    scorer, student = (
        make_scorer(tiny_encoder("bert"), prefix=prefix) for prefix in ("query: ", "")
    )
    with pytest.raises(ModelError, match="must read the same windows"):
        export_scorer(scorer, TOPICS, tmp_path, ExportSettings(), texts=TEXTS, student=student)


@pytest.mark.parametrize(("pooling", "at_least"), [("mean", 1), ("cls", 1), ("mean", 18)])
def test_a_network_that_drops_tokens_is_fused_and_near_torch(
    tiny_encoder, tmp_path, pooling, at_least
):
    onnx = pytest.importorskip("onnx")
    settings = {"keep_tokens": {1: 0.4}, "keep_at_least": at_least, "pooling": pooling}
    scorer = make_scorer(tiny_encoder("bert"), **settings)
    export_scorer(scorer, TOPICS, tmp_path, ExportSettings(), texts=TEXTS)
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert kinds.count("MultiHeadAttention") == 2
    small = OnnxScorer.load(tmp_path, CODEBOOK, threads=1)
    read = [*TEXTS, *SENTENCES, "گاز"]
    difference = np.abs(probabilities(small.score(read)) - probabilities(scorer.score(read)))
    # where two tokens are worth nearly the same, rounding lets the other one go on
    assert np.quantile(difference.max(axis=1), 0.8) < 0.05
    alone = np.concatenate([small.score([text]) for text in read])
    assert np.allclose(alone, small.score(read), atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_prefix_is_kept_however_few_pieces_may(tiny_encoder, tmp_path, architecture):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(SENTENCES), encoding="utf-8")
    scorer = make_scorer(tiny_encoder(architecture), prefix="Boru hattı ")
    settings = ExportSettings(corpus=(corpus,), max_pieces=1)
    vocabulary = build_vocabulary(scorer, settings, SENTENCES[:6])
    assert set(scorer.rule.head) < set(vocabulary.kept.tolist())
    assert len(vocabulary.kept) < len(scorer.tokenizer)


def test_a_vocabulary_without_the_padding_is_refused(tiny_encoder):
    scorer = make_scorer(tiny_encoder("bert"))
    others = np.arange(scorer.pad_token_id + 1, len(scorer.tokenizer))
    with pytest.raises(ModelError, match="the trimmed vocabulary lacks the piece with id"):
        trim_network(scorer, TrimmedVocabulary("{}", others))
