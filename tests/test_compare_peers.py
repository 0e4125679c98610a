"""A tiny run of the peers that need no extra, on the project's own data."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def peers():
    path = ROOT / "scripts" / "compare_peers.py"
    spec = importlib.util.spec_from_file_location("compare_peers", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["compare_peers"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["compare_peers"]


def test_the_linear_peers_are_trained_and_laid_side_by_side(peers, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(peers, "HASH_BITS", 14)
    output = tmp_path / "peers.md"
    peers.main([
        "configs/authored.yaml", "--peers", "tfidf", "hashing", "--limit", "150",
        "--resamples", "20", "--output", str(output),
    ])  # fmt: skip
    table = output.read_text("utf-8")
    assert "150 passages of" in table
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line[:1] == "|"}
    assert {"tfidf", "hashing"} <= set(rows)
    for name in ("tfidf", "hashing"):
        macro_f1 = float(rows[name].split("|")[2].split()[0])
        assert 0.2 < macro_f1 <= 1
        assert "[" in rows[name]
    assert table in capsys.readouterr().out


def test_shots_are_drawn_from_every_topic_once(peers):
    y_true = np.zeros((400, 2), dtype=np.uint8)
    y_true[:100, 0] = 1
    y_true[50:110, 1] = 1
    drawn = peers._draw_shots(y_true, seed=0)
    assert len(drawn) == len(set(drawn.tolist()))
    assert y_true[drawn].sum(axis=0).min() >= 60
    assert (~y_true[drawn].astype(bool).any(axis=1)).sum() == peers.SHOTS


def test_an_unknown_peer_is_refused(peers, capsys):
    with pytest.raises(SystemExit):
        peers.main(["configs/authored.yaml", "--peers", "oracle"])
    assert "invalid choice: 'oracle'" in capsys.readouterr().err


def test_a_topic_that_training_lacks_gets_its_share(peers):
    np.testing.assert_array_equal(peers._Constant(0).predict_proba(np.zeros((2, 3)))[:, 1], [0, 0])
