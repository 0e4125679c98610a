import pytest

from relclass.cli import main


@pytest.mark.parametrize(
    ("command", "default"),
    [
        (("train",), "[default: runs/NAME]"),
        (("data", "split"), "[default: data/splits.json]"),
        (
            ("evaluate",),
            "[default: the config's, the first model's for a labelled file, or data/codebook.yaml]",
        ),
    ],
)
def test_a_help_page_keeps_what_stands_in_square_brackets(capsys, command, default):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert default in " ".join(capsys.readouterr().out.split())
