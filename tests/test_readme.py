"""What the README says holds: its example, its map, the version."""

import re
import tomllib
from pathlib import Path

import relclass

ROOT = Path(__file__).parent.parent


def test_the_example_of_the_readme_runs_and_says_what_it_says(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    readme = Path("README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    scope: dict = {}
    exec(example, scope)
    clf, texts = scope["clf"], scope["texts"]
    assert clf.topics == ("security", "transit", "energy", "karabakh")
    assert clf.predict_topics(texts) == [("transit", "energy"), ()]
    assert clf.predict_proba(texts).shape == clf.predict(texts).shape == (2, 4)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 67
    assert {word for line in lines for word in line.split()[2:]} == set(clf.topics)


def test_the_map_names_every_file_of_the_package():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("## The map of the house")[1]
    named = set(re.findall(r"[a-z_]+", table))
    for path in (ROOT / "relclass").rglob("*.py"):
        name = path.parent.name if path.stem == "__init__" else path.stem
        is_named = name in named or path.parent.name in ("commands", "engines", "benchmark")
        is_page = name.startswith("report_")
        assert is_named or is_page or path.stem == "__main__", path


def test_the_package_and_its_metadata_name_the_same_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == relclass.__version__
