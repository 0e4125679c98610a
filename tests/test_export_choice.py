"""How many activations the export quantises twice, on graphs that are stood in for by numbers."""

import numpy as np
import pytest

from relclass.models import export, quantization

EXACT = -1


def choose(monkeypatch, errors):
    """Let a graph with so many activations quantised twice be off by so much at the worst text."""
    names = [f"activation{place}" for place in range(10)]
    asked = []

    def run(model, batches):
        asked.append(model)
        probability = 0.5 + (0.0 if model == EXACT else errors[model])
        return np.array([[0.0, np.log(probability / (1 - probability))]])

    monkeypatch.setattr(export, "to_onnx", lambda network, batch: (EXACT, "words"))
    monkeypatch.setattr(quantization, "measure_activations", lambda model, batches: {})
    monkeypatch.setattr(quantization, "round_products", lambda model, activations: {})
    monkeypatch.setattr(quantization, "reading_order", lambda model: names)
    monkeypatch.setattr(
        quantization, "quantize_products", lambda model, found, *, twice, rounded: len(twice)
    )
    monkeypatch.setattr(quantization, "run_graph", run)
    monkeypatch.setattr(quantization, "split_norms", lambda model: model)
    monkeypatch.setattr(quantization, "pack_embeddings", lambda model, name: model)
    chosen, embeddings = export._quantised(None, [{}], [{}])
    assert embeddings == "words"
    assert asked[0] == EXACT
    return chosen


FINE = {0: 0.2, 1: 0.12, 2: 0.06, 3: 0.05, 4: 0.05, 5: 0.05, 8: 0.04, 10: 0.03}


def test_as_few_as_keep_the_bound(monkeypatch):
    assert choose(monkeypatch, FINE) == 2


def test_none_where_none_is_needed(monkeypatch):
    assert choose(monkeypatch, FINE | {0: 0.069}) == 0


@pytest.mark.parametrize(("once", "expected"), [(0.17, 0), (0.19, 1)])
def test_as_few_as_come_near_to_all_where_the_weights_alone_miss_it(monkeypatch, once, expected):
    errors = dict.fromkeys(FINE, 0.15) | {0: once}
    assert choose(monkeypatch, errors) == expected


def test_all_where_no_part_comes_near(monkeypatch):
    errors = dict.fromkeys(FINE, 0.3) | {10: 0.1}
    assert choose(monkeypatch, errors) == 10
