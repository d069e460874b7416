"""The file of --save is replaced in one step, and nothing but an earlier result is replaced."""

import os
from pathlib import Path

import pytest

from syncd.core.errors import ConfigError
from syncd.queries.saved_run import SavedMirror, SavedQuestion, SavedRun, SavePlace, read_saved_run

QUESTION = SavedQuestion(query="q", expect="a.md", rank=1, score=0.5, answered=None)


def results(*names: str, top: int = 10) -> SavedRun:
    mirrors = {name: SavedMirror(target=f"ai-search:default/{name}", queries=[QUESTION]) for name in names}
    return SavedRun(time="2026-11-22T10:00:00Z", top=top, mirrors=mirrors)


def test_saved_results_are_read_again(tmp_path: Path) -> None:
    file = tmp_path / "saved.json"
    SavePlace(file).write(results("docs"))
    assert read_saved_run(file, 10) == results("docs")
    SavePlace(file).write(results("docs", "more"))
    assert read_saved_run(file, 10) == results("docs", "more")
    assert [each.name for each in tmp_path.iterdir()] == ["saved.json"]


def test_a_new_file_has_the_mode_of_the_umask_and_a_replaced_one_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "saved.json"
    before = os.umask(0o027)
    try:
        SavePlace(file).write(results("docs"))
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o640
    file.chmod(0o604)
    SavePlace(file).write(results("docs"))
    assert file.stat().st_mode & 0o777 == 0o604


def test_the_file_behind_a_link_is_replaced_and_not_the_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real.json")
    for _ in range(2):
        SavePlace(tmp_path / "link").write(results("docs"))
    assert (tmp_path / "link").is_symlink()
    assert read_saved_run(tmp_path / "real.json", 10) == results("docs")


@pytest.mark.parametrize("text", ["", "query,expect\n", "{}", '{"kind": "another", "version": 1}', "\udcff"])
def test_a_file_of_another_kind_stays(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.fsencode(text))
    with pytest.raises(ConfigError, match="something else than results of verify"):
        SavePlace(file)
    with pytest.raises(ConfigError, match="holds no results of this version"):
        read_saved_run(file, 10)
    assert file.read_bytes() == os.fsencode(text)


def test_a_folder_a_pipe_and_a_device_stay(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ConfigError, match="something else than results of verify"):
            SavePlace(place)


def test_a_missing_folder_is_reported_before_any_question(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder that this user may write into"):
        SavePlace(tmp_path / "missing" / "saved.json")


def test_a_failed_write_keeps_the_earlier_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "saved.json"
    SavePlace(file).write(results("docs"))
    place = SavePlace(file)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(ConfigError, match="No space left on device"):
            place.write(results("more"))
    assert read_saved_run(file, 10) == results("docs")
    assert [each.name for each in tmp_path.iterdir()] == ["saved.json"]


def test_results_of_another_number_of_hits_are_not_compared(tmp_path: Path) -> None:
    SavePlace(tmp_path / "saved.json").write(results("docs", top=5))
    with pytest.raises(ConfigError, match="measured with --top 5"):
        read_saved_run(tmp_path / "saved.json", 10)
    with pytest.raises(ConfigError, match="No such file"):
        read_saved_run(tmp_path / "missing.json", 10)


def test_a_single_mirror_is_compared_with_the_only_other_one() -> None:
    assert results("docs").of("docs", 1) is not None
    assert results("docs").of("docs-new", 1) is not None
    assert results("docs").of("docs-new", 2) is None
    assert results("docs", "more").of("docs-new", 1) is None
    assert results("docs", "more").of("more", 2) is not None
