"""Every config of the tree is loaded, and trained for a step on a tiny encoder of its kind."""

from pathlib import Path

import pytest
from tiny_project import write_project

from relclass.config import ThresholdSettings, TransformerSettings, load_config
from relclass.dataset import load_dataset
from relclass.run_folder import RunOptions
from relclass.training import train

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
ARCHITECTURES = {
    "bundled": "bert",
    "runs/student/model": "bert",
    "runs/dropped-run/model": "bert",
    "runs/pruned-start": "bert",
    "runs/pruned/model": "bert",
    "runs/shipped": "bert",
    "runs/shipped-student": "bert",
    "runs/student-start": "bert",
    "runs/teacher/model": "bert",
    "HooshvareLab/bert-fa-zwnj-base": "bert",
    "CAMeL-Lab/bert-base-arabic-camelbert-msa": "bert",
    "intfloat/multilingual-e5-small": "bert",
    "intfloat/multilingual-e5-base": "xlm-roberta",
    "xlm-roberta-base": "xlm-roberta",
    "xlm-roberta-large": "xlm-roberta",
    "microsoft/mdeberta-v3-base": "deberta-v2",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("project"))


def test_there_are_configs():
    assert len(CONFIGS) >= 8


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_trains(path, data, tiny_encoder, tmp_path):
    config = load_config(path)
    changes = {"data": data, "thresholds": ThresholdSettings()}
    if isinstance(config.model, TransformerSettings):
        small = {
            "encoder": str(tiny_encoder(ARCHITECTURES[config.model.encoder])),
            "max_length": 24,
            "batch_size": 8,
            "keep_head": False,  # a tiny encoder has none
            "keep_tokens": {},  # which is theirs to say
            "imitate": None,
        }
        if config.model.exits:  # and two layers
            small |= {"exits": (1,)}
        if config.model.layers is not None:
            small |= {"layers": 2}
        if isinstance(config.model.freeze, int):
            small |= {"freeze": 1}
        changes["model"] = config.model.model_copy(update=small)
    classifier = train(
        config.model_copy(update=changes),
        tmp_path / "run",
        device="cpu",
        options=RunOptions(max_steps=1),
    )
    assert classifier.name == config.name
    assert classifier.predict_proba(["گاز", ""]).shape == (2, 4)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_can_leave_the_real_passages_out_where_their_texts_are_missing(path):
    config = load_config(path, ["data.real_labels=null", "thresholds.origin=all"])
    assert config.data.real_labels is None and config.thresholds.origin == "all"
    assert load_dataset(config.data).part("validation")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_why_in_a_comment(path):
    assert path.read_text(encoding="utf-8").startswith("# ")
