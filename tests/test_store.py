import json
import shutil
import sys

import numpy as np
import pytest

from relclass.calibration import Calibration
from relclass.codebook import Codebook, Topic
from relclass.config import BaselineSettings, NormalizeSettings
from relclass.errors import ModelError
from relclass.models import store
from relclass.models.base import Classifier
from relclass.models.baseline import fit_baseline
from relclass.models.lexicon import LEXICON_FILE, Keywords, Lexicon, LexiconScorer
from relclass.models.store import load_model, save_model, shipped_models

CODEBOOK = Codebook(
    version="1.1",
    topics=(
        Topic(name="energy", definition="oil, gas", examples=("گاز گران شد",)),
        Topic(name="transit", definition="roads and rails"),
    ),
)
TEXTS = ["gas در لوله", "railway و gas", "جشنواره", "", "Qatar yolu", "الغاز والقطار", "\ud800"]


def make_classifier(kind="lexicon", **changes):
    if kind == "lexicon":
        keywords = {
            "energy": Keywords(strong={"en": ("gas",), "fa": ("لوله",)}),
            "transit": Keywords(strong={"en": ("railway",)}),
        }
        scorer = LexiconScorer(Lexicon(topics=keywords), CODEBOOK.names)
    else:
        y_true = np.array([[1, 0], [0, 1], [0, 0], [1, 1]] * 3)
        texts = ["gas oil گاز", "railway road قطار", "song and dance", "gas railway"] * 3
        scorer = fit_baseline(texts, y_true, None, BaselineSettings(min_df=1))
    values = {
        "name": f"tiny-{kind}",
        "codebook": CODEBOOK,
        "scorer": scorer,
        "normalize": NormalizeSettings(half_spaces="drop", digits=True),
        "calibration": Calibration(
            "platt", tuple({"slope": (s,), "intercept": (0.25,)} for s in (0.5, 1.5))
        ),
        "thresholds": np.array([0.4, 0.55]),
        "card": {"metrics": {"macro_f1": 0.5}},
    }
    return Classifier(**values | changes)


@pytest.fixture
def model_dir(tmp_path):
    save_model(make_classifier(), tmp_path / "model")
    return tmp_path / "model"


def edit_manifest(model_dir, **changes):
    path = model_dir / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        manifest[key] = value
    path.write_text(json.dumps(manifest), encoding="utf-8")


# --- what is saved is loaded ---


@pytest.mark.parametrize("kind", ["lexicon", "baseline"])
def test_save_and_load_give_the_same_probabilities(kind, tmp_path, capfd):
    classifier = make_classifier(kind)
    save_model(classifier, tmp_path / "a" / "model", card={"data": {"train": "abc"}})
    loaded = load_model(tmp_path / "a" / "model")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    np.testing.assert_array_equal(loaded.predict(TEXTS), classifier.predict(TEXTS))
    assert loaded.card == {"metrics": {"macro_f1": 0.5}, "data": {"train": "abc"}}
    for name in ("name", "codebook", "normalize", "calibration"):
        assert getattr(loaded, name) == getattr(classifier, name)
    assert capfd.readouterr() == ("", "")


def test_a_folder_saved_again_is_the_same_byte_for_byte(model_dir, tmp_path):
    save_model(load_model(model_dir), tmp_path / "again")
    for path in model_dir.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_the_manifest_says_all_that_is_needed(model_dir):
    manifest = json.loads((model_dir / "manifest.json").read_text(encoding="utf-8"))
    assert list(manifest) == list(store.KEYS)
    assert manifest["format_version"] == 1
    assert manifest["kind"] == "lexicon"
    assert manifest["thresholds"] == {"energy": 0.4, "transit": 0.55}
    assert [topic["name"] for topic in manifest["codebook"]["topics"]] == ["energy", "transit"]
    assert set(manifest["files"]) == {LEXICON_FILE}
    assert set(manifest["files"][LEXICON_FILE]) == {"sha256", "bytes"}


def test_a_model_replaces_a_model_and_leaves_nothing_beside_it(model_dir):
    (model_dir / "notes.md").write_text("old", encoding="utf-8")
    save_model(make_classifier("baseline"), model_dir)
    assert load_model(model_dir).name == "tiny-baseline"
    assert [path.name for path in model_dir.parent.iterdir()] == ["model"]
    assert not (model_dir / "notes.md").exists()


def test_a_save_that_fails_leaves_the_old_model(model_dir, monkeypatch):
    def fail(self, model_dir):
        (model_dir / "half").write_text("x")
        raise OSError("no space left")

    monkeypatch.setattr(LexiconScorer, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        save_model(make_classifier(), model_dir)
    assert load_model(model_dir).name == "tiny-lexicon"
    assert [path.name for path in model_dir.parent.iterdir()] == ["model"]


def test_a_rename_that_fails_puts_the_old_model_back(model_dir, monkeypatch):
    rename = type(model_dir).rename

    def fail_for_new(self, target):
        if self.name == "new":
            raise OSError("disk gone")
        return rename(self, target)

    monkeypatch.setattr(type(model_dir), "rename", fail_for_new)
    with pytest.raises(OSError, match="disk gone"):
        save_model(make_classifier(), model_dir)
    assert load_model(model_dir).name == "tiny-lexicon"


def test_a_folder_that_is_no_model_is_not_replaced(tmp_path):
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(ModelError, match="exists and is not a model folder: not replaced"):
        save_model(make_classifier(), tmp_path)
    with pytest.raises(ModelError, match="not a model folder"):
        save_model(make_classifier(), tmp_path / "thesis.docx")
    assert (tmp_path / "thesis.docx").read_text() == "years of work"


@pytest.mark.parametrize("value", [{1, 2}, float("nan")])
def test_a_card_that_is_not_json_is_refused(value, tmp_path):
    with pytest.raises(ModelError, match="card is not plain JSON"):
        save_model(make_classifier(), tmp_path / "model", card={"value": value})
    assert list(tmp_path.iterdir()) == []


# --- names ---


def test_shipped_models_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHIPPED_DIR", tmp_path)
    assert shipped_models() == ()
    with pytest.raises(ModelError, match=r"'default': no such directory.*Shipped: none"):
        load_model()
    save_model(make_classifier(), tmp_path / "lexicon")
    assert load_model().name == "tiny-lexicon"
    save_model(make_classifier("baseline"), tmp_path / "baseline")
    assert shipped_models() == ("baseline", "lexicon")
    assert load_model("lexicon").name == "tiny-lexicon"
    assert load_model().name == load_model("default").name == "tiny-baseline"
    save_model(make_classifier(name="best"), tmp_path / "default")
    assert load_model().name == "best"


def test_a_name_misspelt_gets_the_nearest_one(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHIPPED_DIR", tmp_path)
    save_model(make_classifier(), tmp_path / "baseline")
    with pytest.raises(ModelError, match=r"'basline'.*did you mean 'baseline'.*Shipped: baseline"):
        load_model("basline")
    with pytest.raises(ModelError, match=r"did you mean 'default'"):
        load_model("defualt")
    with pytest.raises(ModelError, match="no such directory"):
        load_model(tmp_path / "nothing")


# --- what is refused ---


def test_a_folder_without_a_manifest_is_refused(model_dir):
    (model_dir / "manifest.json").unlink()
    with pytest.raises(ModelError, match=r"model: no manifest\.json: not a model folder"):
        load_model(model_dir)


def test_a_manifest_cut_short_is_refused(model_dir):
    path = model_dir / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"manifest\.json: not JSON, so cut short or edited"):
        load_model(model_dir)


def test_a_manifest_that_is_no_mapping_is_refused(model_dir):
    (model_dir / "manifest.json").write_text("[1]")
    with pytest.raises(ModelError, match="expected a mapping, got list"):
        load_model(model_dir)


@pytest.mark.parametrize("name", ["manifest.json", LEXICON_FILE])
def test_a_git_lfs_pointer_is_refused(model_dir, name):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12345\n"
    (model_dir / name).write_text(pointer)
    with pytest.raises(ModelError, match=f"{name}: a Git-LFS pointer.*run git lfs pull"):
        load_model(model_dir)


def test_a_file_cut_short_is_refused(model_dir):
    path = model_dir / LEXICON_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"lexicon\.json: cut short: \d+ bytes, expected \d+"):
        load_model(model_dir)


def test_an_edited_file_is_refused(model_dir):
    path = model_dir / LEXICON_FILE
    path.write_bytes(path.read_bytes().replace(b"gas", b"gaz"))
    with pytest.raises(ModelError, match=r"lexicon\.json: edited or damaged: its sha256"):
        load_model(model_dir)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ModelError, match=r"lexicon\.json: edited: \d+ bytes, expected \d+"):
        load_model(model_dir)


def test_a_missing_file_is_refused(model_dir):
    (model_dir / LEXICON_FILE).unlink()
    with pytest.raises(ModelError, match=r"lexicon\.json: missing, though the manifest lists it"):
        load_model(model_dir)


def test_a_file_that_the_manifest_does_not_list_is_refused_unless_harmless(model_dir):
    (model_dir / "README.md").write_text("about")
    (model_dir / ".DS_Store").write_text("x")
    load_model(model_dir)
    (model_dir / "extra.bin").write_text("x")
    with pytest.raises(ModelError, match=r"extra\.bin: not in the manifest"):
        load_model(model_dir)


def test_a_file_left_out_of_the_manifest_is_not_read_unchecked(model_dir):
    edit_manifest(model_dir, files={})
    with pytest.raises(ModelError, match=r"lexicon\.json: not in the manifest"):
        load_model(model_dir)


@pytest.mark.parametrize(
    "name",
    ["../secret", "a/../../secret", "/etc/passwd", "..", "", ".", "C:\\x", "a\\..\\x", "a\0b"],
)
def test_a_file_name_that_leaves_the_folder_is_refused(model_dir, name):
    (model_dir.parent / "secret").write_text("x")
    edit_manifest(model_dir, files={name: {"sha256": "0", "bytes": 1}})
    with pytest.raises(ModelError, match="lies outside the model folder"):
        load_model(model_dir)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format_version": 2},
            r"format 2 is newer than this relclass reads \(1\): upgrade .*git pull",
        ),
        ({"format_version": 2, "codebook": 3, "new": 1}, "format 2 is newer"),
        ({"format_version": "1"}, "format_version '1': expected a whole number"),
        ({"format_version": 0}, "format_version 0"),
        ({"format_version": True}, "format_version True"),
        ({"threshold": {}}, r"unknown key 'threshold' \(did you mean 'thresholds'\?\)"),
        ({"kind": "transfomer"}, r"unknown kind 'transfomer' \(did you mean 'transformer'\?\)"),
        ({"kind": ["x"]}, "unknown kind"),
        ({"name": 3}, "expected name to be text"),
        ({"card": []}, "card a mapping"),
        ({"files": []}, "files: expected a mapping"),
        ({"files": {LEXICON_FILE: "abc"}}, "expected sha256 and bytes"),
        ({"files": {LEXICON_FILE: {"sha256": "a", "bytes": "9"}}}, "expected sha256 and bytes"),
        ({"codebook": {"version": "1", "topics": []}}, "Codebook: topics: Tuple should have"),
        ({"normalize": {"half_space": "drop"}}, "NormalizeSettings: half_space: Extra inputs"),
        ({"calibration": {"method": "magic", "parameters": []}}, "calibration 'magic'"),
        (
            {
                "calibration": {
                    "method": "platt",
                    "parameters": [{"slope": [1.0], "intercept": [0.0]}],
                }
            },
            "calibration of 1 topics, but the codebook has 2",
        ),
        ({"thresholds": {"energy": 0.5}}, r"do not match the topics \['energy', 'transit'\]"),
        ({"thresholds": [0.5, 0.5]}, "do not match the topics"),
        ({"thresholds": {"energy": 0.5, "transit": 1.0}}, "threshold of 'transit' is 1.0"),
        ({"thresholds": {"energy": "a", "transit": 0.5}}, "threshold of 'energy' is 'a'"),
        ({"thresholds": {"energy": True, "transit": 0.5}}, "threshold of 'energy' is True"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(model_dir, changes, message):
    edit_manifest(model_dir, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(model_dir)


@pytest.mark.parametrize("key", store.KEYS[1:])
def test_a_manifest_that_lacks_a_key_is_refused(model_dir, key):
    path = model_dir / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest[key]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=f"key '{key}' is missing"):
        load_model(model_dir)


def test_thresholds_and_columns_follow_the_codebook_and_not_the_order_of_the_mapping(model_dir):
    edit_manifest(model_dir, thresholds={"transit": 0.55, "energy": 0.4})
    np.testing.assert_array_equal(load_model(model_dir).thresholds, [0.4, 0.55])


def test_a_model_that_needs_hazm_says_so_where_hazm_is_missing(tmp_path, monkeypatch):
    save_model(make_classifier(normalize=NormalizeSettings(hazm=True)), tmp_path / "model")
    monkeypatch.setitem(sys.modules, "hazm", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"spaced by hazm.*pip install -e '\.\[persian\]'"):
        load_model(tmp_path / "model")


def test_a_kind_is_imported_only_when_it_is_loaded(model_dir, monkeypatch):
    modules = {module for module, _ in store.SCORERS.values()}
    for module in modules:
        monkeypatch.delitem(sys.modules, module, raising=False)
    load_model(model_dir)
    assert modules & set(sys.modules) == {"relclass.models.lexicon"}


def test_a_folder_can_be_moved(model_dir, tmp_path):
    shutil.move(model_dir, tmp_path / "elsewhere")
    assert load_model(str(tmp_path / "elsewhere")).topics == ("energy", "transit")


def test_every_shipped_model_loads_and_labels():
    for name in shipped_models():
        classifier = load_model(name)
        assert classifier.predict_proba(["گاز", ""]).shape == (2, len(classifier.topics))
