"""Settings: one typed, frozen model per stage; unknown keys are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from relclass.errors import ConfigError, did_you_mean

_Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of every stage's settings: frozen, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NormalizeSettings(Settings):
    """What is done to a text before a model sees it; stored with the model and replayed.

    Each step touches only the languages it is right for.
    """

    letters: bool = True
    """Arabic letter forms in Persian to Persian ones; presentation forms and tatweel folded."""
    digits: bool = False
    """Persian and Arabic digits to Latin ones."""
    marks: bool = False
    """Arabic short vowels dropped (never tanwin's letter)."""
    spaces: bool = True
    """Runs of spaces, and invisible and direction characters, folded."""
    half_spaces: Literal["keep", "space", "drop"] = "keep"
    """The zero-width non-joiner in Persian: kept, made a space, or dropped."""
    hazm: bool = False
    """hazm's spacing of Persian affixes; needs the extra [persian]."""
    compounds: bool = False
    """Persian affixes and known compounds, spaced or glued, joined with a half-space."""


AS_READ = NormalizeSettings(letters=False, spaces=False)
"""No step at all: for models whose members normalise for themselves."""


class DataSettings(Settings):
    """Which labelled passages a run sees."""

    codebook: Path = Path("data/codebook.yaml")
    authored: tuple[Path, ...] = (Path("data/articles"),)
    real_labels: Path | None = None
    """Dehydrated labels of real passages; their texts come from `real_texts`."""
    real_texts: tuple[Path, ...] = ()
    """Files that hold the texts, looked up by hash."""
    splits: Path = Path("data/splits.json")
    unsure_weight: float = Field(default=1.0, ge=0, le=1)
    """Weight in the loss of a topic that the annotator was unsure of."""
    authored_weight: float = Field(default=1.0, ge=0)
    """Weight of an authored passage beside a real one."""
    pseudo_labels: tuple[Path, ...] = ()
    """Passages that a teacher labelled, as `relclass predict --output` wrote them: its
    probabilities are the targets (distillation, Hinton et al. 2015,
    https://arxiv.org/abs/1503.02531). Near-duplicates of labelled passages are left out."""
    pseudo_weight: float = Field(default=1.0, ge=0)
    """Weight of such a passage beside a real one."""


class ThresholdSettings(Settings):
    """How logits become calibrated probabilities, and those become topics."""

    calibration: Literal["none", "temperature", "platt", "isotonic"] = "platt"
    tuning: Literal["fixed", "global", "per_topic"] = "global"
    fixed: float = Field(default=0.5, gt=0, lt=1)
    origin: Literal["real", "authored", "all"] = "all"
    """Which validation passages they are fitted on."""


class LexiconSettings(Settings):
    """Keywords by topic, counted; nothing is fitted but the threshold."""

    kind: Literal["lexicon"] = "lexicon"
    lexicon: Path = Path("data/lexicon.yaml")


class BaselineSettings(Settings):
    """TF-IDF over words and characters with one linear model per topic."""

    kind: Literal["baseline"] = "baseline"
    word_ngrams: tuple[int, int] = (1, 2)
    char_ngrams: tuple[int, int] = (2, 5)
    max_word_features: int = Field(default=40_000, ge=1)
    max_char_features: int = Field(default=80_000, ge=1)
    min_df: int = Field(default=2, ge=1)
    C: float = Field(default=2.0, gt=0)
    class_weight: Literal["balanced", "none"] = "balanced"
    lexicon: Path | None = None
    """A keyword lexicon whose counts are further features; kept in the model folder."""


class LoraSettings(Settings):
    """Low-rank adapters (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)


class TransformerSettings(Settings):
    """A pretrained encoder with a multi-label head, and how it is fine-tuned.

    A student for distillation is a fine-tuned checkpoint with fewer `layers` (Sanh et al. 2019,
    https://arxiv.org/abs/1910.01108) or fewer tokens (`keep_tokens`; Goyal et al. 2020,
    https://arxiv.org/abs/2001.08950); at `exits` it can stop early (Schwartz et al. 2020,
    https://arxiv.org/abs/2004.07453).
    """

    kind: Literal["transformer"] = "transformer"
    encoder: str = "bundled"
    """"bundled", a directory, or a hub name such as HooshvareLab/bert-fa-zwnj-base."""
    keep_head: bool = False
    """Begin with the head of `encoder`, a model folder of ours with the same topics."""
    layers: _Count | tuple[_Count, ...] | None = None
    """Keep so many of the encoder's layers, evenly spread and the last among them; or these,
    counted from 1 and ascending; None all."""
    activation: Literal["relu"] | None = None
    """Put another activation in the feed-forward parts; None leaves the encoder's own."""
    exits: tuple[int, ...] = ()
    """Layers after which a further head reads the passage; ascending, below the number of layers.
    The layers before the first, with its head, can ship as a student by themselves."""
    keep_tokens: dict[int, float] = {}
    """After these layers only so large a share of a window's tokens goes on, those that the topics
    hang on most: {4: 0.5, 8: 0.25}. Shares of all its tokens, falling. With `keep_head` and an
    `encoder` that `relclass drop-tokens` wrote with the same numbers."""
    keep_at_least: _Count = 32
    """So many tokens of a window go on whatever the shares: a list's every word may be a topic."""
    exit_weight: float = Field(default=0.3, gt=0)
    """Weight in the loss of each exit's head beside the last one."""
    imitate: str | None = None
    """A model folder, of the same tokenizer and hidden size, whose pooled states of the training
    passages are to be met: 384 numbers say more of a passage than a probability a topic."""
    imitate_weight: float = Field(default=0.5, gt=0)
    """Weight in the loss of the mean square distance from them, in standard deviations."""
    round_activations: bool = False
    """Round activations in training to the steps of their int8 form."""
    pooling: Literal["mean", "cls", "native"] = "mean"
    """"native" is the architecture's own, and leaves a plain Hugging Face checkpoint."""
    prefix: str = ""
    """Put before every passage; e5 was trained with "query: "."""
    max_length: int = Field(default=192, ge=8)
    freeze: Literal["none", "embeddings", "encoder"] | _Count = "embeddings"
    """Weights that are not trained; a number: the embeddings and so many of the first layers."""
    lora: LoraSettings | None = None
    epochs: float = Field(default=4, gt=0)
    batch_size: int = Field(default=32, ge=1)
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=5.0e-5, gt=0)
    head_learning_rate: float = Field(default=1.0e-3, gt=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    encoder_dropout: float = Field(default=0.0, ge=0, lt=1)
    head_dropout: float = Field(default=0.1, ge=0, lt=1)
    positive_weight: Literal["none", "balanced"] | float = "none"
    """Weight of a topic's positives in the loss; "balanced" is negatives over positives."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    average_decay: float | None = Field(default=None, gt=0, lt=1)
    """Share of the old running average of the weights kept at a step; None uses the last ones."""
    early_stopping_patience: int | None = Field(default=None, ge=1)
    """Evaluations without a better validation macro-F1 before it stops; not with
    `average_decay`."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    attention: Literal["auto", "eager", "sdpa"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _forget_halving(cls, content: Any) -> Any:
        # in every model folder of versions 0.4 to 0.6, which must still load
        if isinstance(content, dict) and content.get("halve_after") in ([], ()):
            content = {key: value for key, value in content.items() if key != "halve_after"}
        return content


class TrainConfig(Settings):
    """One training run. Device, output folder and workers are arguments, not config."""

    name: str
    seed: int = 0
    data: DataSettings = DataSettings()
    normalize: NormalizeSettings = NormalizeSettings()
    model: LexiconSettings | BaselineSettings | TransformerSettings = Field(
        default=BaselineSettings(), discriminator="kind"
    )
    thresholds: ThresholdSettings = ThresholdSettings()

    @field_validator("model")
    @classmethod
    def _check_tokens(cls, model: Settings) -> Settings:
        if isinstance(model, TransformerSettings) and model.keep_tokens and not model.keep_head:
            raise ValueError(
                "keep_tokens needs an encoder that says which tokens matter: write one by relclass "
                "drop-tokens, and set keep_head"
            )
        return model

    @field_validator("model")
    @classmethod
    def _check_average(cls, model: Settings) -> Settings:
        # here, not with the settings: a model folder written when the pair passed must still load
        if isinstance(model, TransformerSettings) and None not in (
            model.average_decay,
            model.early_stopping_patience,
        ):
            raise ValueError(
                "early_stopping_patience chooses among the weights of each epoch, average_decay "
                "makes their average: leave one of the two out"
            )
        return model


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a config and apply overrides.

    Parameters
    ----------
    path : YAML that holds what differs from the defaults.
    overrides : "section.key=value", the value read as YAML; checked like the file's.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is not one of the config's. An unknown
        key names the nearest known one.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the config: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, got {content!r}")
    for override in overrides:
        _apply_override(content, override)
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        lines = [_explain(dict(problem)) for problem in error.errors()]
        raise ConfigError("\n".join(f"{path}: {line}" for line in lines)) from error


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: expected section.key=value")
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise ConfigError(f"override {override!r}: {section!r} is not a section")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not YAML: {error}") from error


def _known_keys() -> set[str]:
    keys: set[str] = set()
    models: list[type[BaseModel]] = [
        TrainConfig, DataSettings, NormalizeSettings, ThresholdSettings, LexiconSettings,
        BaselineSettings,
        TransformerSettings, LoraSettings,
    ]  # fmt: skip
    for model in models:
        keys.update(model.model_fields)
    return keys


def _explain(problem: dict[str, Any]) -> str:
    loc = problem["loc"]
    if loc[0] == "model" and len(loc) > 2:
        loc = (loc[0], *loc[2:])  # pydantic puts the kind between the section and the key
    place = ".".join(str(part) for part in loc)
    if problem["type"] == "extra_forbidden":
        hint = did_you_mean(str(problem["loc"][-1]), _known_keys())
        return f"unknown key {place!r}{hint}"
    return f"{place}: {problem['msg']}, got {problem['input']!r}"
