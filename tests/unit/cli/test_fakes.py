"""The file of fake models: what is wrong in it is told by place and fix."""

from pathlib import Path

import pytest

from switchboard_cli.fakes import FakesError, read_fakes


def test_each_table_is_a_model_where_it_listens(tmp_path: Path) -> None:
    path = tmp_path / "fakes.toml"
    path.write_text('[small]\nlisten = "127.0.0.1:8101"\nttft_ms = 5\n[large]\nlisten = "h:1"\n')
    small, large = read_fakes(path)
    assert (small.settings.name, small.host, small.port) == ("small", "127.0.0.1", 8101)
    assert small.settings.ttft_ms == 5
    assert (large.settings.name, large.host, large.port) == ("large", "h", 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not = [toml", "fakes.toml: "),
        ("small = 1", r"small: write a table, \[small\]"),
        ("[small]", 'small.listen: write "HOST:PORT", not None'),
        ('[small]\nlisten = "8101"', "small.listen: write"),
        ('[small]\nlisten = ":8101"', "small.listen: write"),
        ('[small]\nlisten = "h:many"', "small.listen: write"),
        ('[small]\nlisten = "h:1"\nttft_ms = "soon"', "small.ttft_ms: "),
        ('[small]\nlisten = "h:1"\nspeed = 1', "small.speed: "),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "fakes.toml"
    path.write_text(text)
    with pytest.raises(FakesError, match=told):
        read_fakes(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FakesError, match=r"nowhere\.toml"):
        read_fakes(tmp_path / "nowhere.toml")
