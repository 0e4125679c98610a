from pathlib import Path

import pytest

from relclass.config import BaselineSettings, TrainConfig, TransformerSettings, load_config
from relclass.errors import ConfigError


def config(tmp_path, text="name: trial\n"):
    path = tmp_path / "c.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_config_holds_only_what_differs(tmp_path):
    settings = load_config(config(tmp_path))
    assert settings == TrainConfig(name="trial")
    assert isinstance(settings.model, BaselineSettings)
    assert settings.data.splits == Path("data/splits.json")


def test_the_kind_of_model_chooses_its_settings(tmp_path):
    path = config(tmp_path, "name: t\nmodel:\n  kind: transformer\n  learning_rate: 2.0e-5\n")
    model = load_config(path).model
    assert isinstance(model, TransformerSettings) and model.learning_rate == 2e-5


def test_overrides_win_over_the_file_and_are_read_as_yaml(tmp_path):
    settings = load_config(
        config(tmp_path, "name: t\nmodel: {kind: baseline, C: 1.0}\n"),
        ["model.C=0.5", "data.real_texts=[a.jsonl, b.txt]", "data.real_labels=null", "seed=3"],
    )
    assert isinstance(settings.model, BaselineSettings) and settings.model.C == 0.5
    assert settings.data.real_texts == (Path("a.jsonl"), Path("b.txt"))
    assert settings.data.real_labels is None and settings.seed == 3


def test_a_resolved_config_reads_back_as_itself(tmp_path):
    import yaml

    settings = load_config(config(tmp_path, "name: t\nmodel: {kind: transformer, lora: {}}\n"))
    text = yaml.safe_dump(settings.model_dump(mode="json"))
    assert load_config(config(tmp_path, text)) == settings


def test_settings_cannot_be_changed_afterwards(tmp_path):
    settings = load_config(config(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: t\nsede: 1\n", r"c\.yaml: unknown key 'sede' \(did you mean 'seed'\?\)"),
        ("name: t\ndata: {unsure_wieght: 1}\n",
         r"unknown key 'data\.unsure_wieght' \(did you mean 'unsure_weight'\?\)"),
        ("name: t\nmodel: {kind: transformer, learning_rate: fast}\n",
         r"c\.yaml: model\.learning_rate: Input should be a valid number.*got 'fast'"),
        ("name: t\nmodel: {kind: transformer, learning_rate: -1}\n", r"greater than 0, got -1"),
        ("name: t\nmodel: {kind: transformer, eposh: 3}\n",
         r"unknown key 'model\.eposh' \(did you mean 'epochs'\?\)"),
        ("name: t\nmodel: {kind: magic}\n", r"model: Input tag 'magic'"),
        ("name: t\ndata: {unsure_weight: 2}\n", r"data\.unsure_weight: .*less than or equal to 1"),
        ("name: t\nmodel: {kind: transformer, average_decay: 0.9, early_stopping_patience: 1}\n",
         r"c\.yaml: model: .*leave one of the two out"),
        ("name: t\nmodel: {kind: transformer, keep_tokens: {4: 0.5}}\n",
         r"c\.yaml: model: .*relclass drop-tokens, and set keep_head"),
        ("name: t\nmodel: {kind: transformer, halve_after: [4]}\n",
         r"unknown key 'model\.halve_after'"),
        ("seed: 1\n", r"name: Field required"),
        ("- a\n", r"expected a mapping of settings"),
        ("name: [", r"c\.yaml: not YAML"),
    ],
)  # fmt: skip
def test_a_broken_config_is_refused_with_its_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(config(tmp_path, text))


def test_settings_of_earlier_versions_that_halved_nothing_are_read():
    settings = TransformerSettings.model_validate({"kind": "transformer", "halve_after": []})
    assert settings == TransformerSettings()


def test_every_problem_is_told_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)unknown key 'sede'.*unknown key 'modle'"):
        load_config(config(tmp_path, "name: t\nsede: 1\nmodle: {}\n"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", r"override 'seed': expected section\.key=value"),
        ("=1", r"override '=1': expected section\.key=value"),
        ("name.x=1", r"override 'name\.x=1': 'name' is not a section"),
        ("seed=[", r"override 'seed=\[': the value is not YAML"),
        ("data.splitz=a", r"unknown key 'data\.splitz' \(did you mean 'splits'\?\)"),
    ],
)
def test_a_broken_override_is_refused(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(config(tmp_path), [override])


def test_a_config_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the config: No such file"):
        load_config(tmp_path / "none.yaml")
