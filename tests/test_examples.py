import numpy as np
import pytest

from relclass.codebook import Codebook, Topic
from relclass.config import DataSettings, TrainConfig
from relclass.errors import DataError
from relclass.examples import make_examples, read_soft_targets
from relclass.records import LabelledPassage

CODEBOOK = Codebook(
    version="1", topics=tuple(Topic(name=name, definition=name) for name in ("a", "b"))
)
PASSAGES = [
    LabelledPassage("p1", "a1", "كتاب  تازه", "fa", ("a",), unsure=("b",)),
    LabelledPassage("p2", "a2", "new book", "en", (), origin="real"),
]
CONFIG = TrainConfig(name="x", data=DataSettings(unsure_weight=0.5, authored_weight=0.25))


def test_texts_are_normalised_and_labels_weighed():
    examples = make_examples(PASSAGES, CODEBOOK, CONFIG)
    assert examples.texts == ["کتاب تازه", "new book"]
    assert examples.y_true.tolist() == [[1, 0], [0, 0]]
    assert examples.weights.tolist() == [[0.25, 0.125], [1, 1]]


def test_a_soft_target_takes_a_labels_place():
    examples = make_examples(PASSAGES, CODEBOOK, CONFIG, soft_targets={"p2": [0.25, 0.75]})
    assert examples.y_true.tolist() == [[1, 0], [0.25, 0.75]]
    assert examples.y_true.dtype == np.float32


@pytest.mark.parametrize("soft", [[0.5], [0.5, 1.5], [float("nan"), 0]])
def test_a_soft_target_that_is_no_probability_is_refused(soft):
    with pytest.raises(DataError, match=r"passage 'p2': expected 2 numbers in \[0, 1\]"):
        make_examples(PASSAGES, CODEBOOK, CONFIG, soft_targets={"p2": soft})


def test_soft_targets_are_read_from_json(tmp_path):
    path = tmp_path / "soft.json"
    path.write_text('{"p1": [0.5, 0.5]}')
    assert read_soft_targets(path) == {"p1": [0.5, 0.5]}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read the soft targets"), ("{", "not JSON"), ("[]", "expected a mapping")],
)
def test_soft_targets_that_cannot_be_read_are_refused(tmp_path, content, message):
    path = tmp_path / "soft.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_soft_targets(path)
