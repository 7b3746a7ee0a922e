"""Directories that one run owns, and files that are whole."""

import json
from pathlib import Path

import pytest

from sqap_vla_ros.core.files import part_of, whole_file, write_whole
from sqap_vla_ros.core.run_directory import DirectoryInUse, Record, RunDirectoryError, difference, reserve

IDENTITY = {"checkpoint": "0123", "robot": {"rate_hz": 20.0, "joints": ["a", "b"]}}


def test_the_first_run_reserves_and_the_second_resumes(tmp_path: Path) -> None:
    assert not reserve(tmp_path / "out", IDENTITY).resumed
    assert reserve(tmp_path / "out", IDENTITY).resumed


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"checkpoint": "4567"}, r'checkpoint \("0123", now "4567"\)'),
        ({"robot": {"rate_hz": 5.0, "joints": ["a", "b"]}}, r"robot: rate_hz \(20.0, now 5.0\)"),
        ({"seed": 1}, r"seed \(none, now 1\)"),
    ],
)
def test_a_run_with_another_identity_is_refused_with_what_differs(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    reserve(tmp_path, IDENTITY)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunDirectoryError, match=f"another {named}; choose another directory"):
        reserve(tmp_path, {**IDENTITY, **change})
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_setting_that_is_no_longer_there_is_a_difference() -> None:
    assert difference({"a": 1, "b": 2}, {"a": 1}) == "b (2, now none)"


def test_a_growing_mapping_takes_new_names_and_refuses_other_values(tmp_path: Path) -> None:
    reserve(tmp_path, {"tasks": {"pick": 1}}, growing=("tasks",))
    reserve(tmp_path, {"tasks": {"place": 2}}, growing=("tasks",))
    assert json.loads((tmp_path / "run.json").read_text()) == {"tasks": {"pick": 1, "place": 2}}
    with pytest.raises(RunDirectoryError, match=r"another tasks: pick \(1, now 3\)"):
        reserve(tmp_path, {"tasks": {"pick": 3}}, growing=("tasks",))


def test_results_without_an_identity_are_not_added_to(tmp_path: Path) -> None:
    (tmp_path / "episodes.jsonl").touch()
    with pytest.raises(RunDirectoryError, match=r"holds episodes.jsonl, but run.json"):
        reserve(tmp_path, IDENTITY, results=("*.jsonl",))


def test_what_others_put_into_a_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dataset_statistics.json").touch()
    with pytest.raises(RunDirectoryError, match=r"is not empty \(it holds dataset_statistics.json\)"):
        reserve(tmp_path, IDENTITY)
    assert [file.name for file in tmp_path.iterdir()] == ["dataset_statistics.json"]
    reserve(tmp_path, IDENTITY, made_before=("dataset_statistics.json",))


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_an_identity_that_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunDirectoryError, match="cannot be read"):
        reserve(tmp_path, IDENTITY)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="cannot be used"):
        reserve(tmp_path / "file", IDENTITY)


def test_nobody_else_uses_a_directory_while_a_run_works_in_it(tmp_path: Path) -> None:
    run = reserve(tmp_path, IDENTITY)
    with run.lock():  # which is of the open directory, not of the process: what holds here holds for others
        with pytest.raises(DirectoryInUse, match="another process works in this directory"):
            reserve(tmp_path, IDENTITY)
        with pytest.raises(DirectoryInUse), run.lock():
            pass
    with reserve(tmp_path, IDENTITY).lock():
        pass


def test_a_record_gives_back_what_was_appended(tmp_path: Path) -> None:
    record = Record(tmp_path / "episodes.jsonl")
    assert record.read(dict) == []
    for number in range(3):
        record.append({"number": number})
    assert [entry["number"] for entry in record.read(dict)] == [0, 1, 2]


def test_a_line_that_a_crash_cut_off_is_removed(tmp_path: Path) -> None:
    record = Record(tmp_path / "episodes.jsonl")
    record.append({"task": "öffnen"})
    content = record.path.read_bytes()
    record.path.write_bytes(content + content[:-8])
    assert len(record.read(dict)) == 1
    record.append({"task": "close"})
    assert len(record.read(dict)) == 2


def test_a_line_that_is_no_entry_is_named(tmp_path: Path) -> None:
    record = Record(tmp_path / "episodes.jsonl")
    record.append({"number": 0})
    with record.path.open("a") as file:
        file.write("[\n")
    with pytest.raises(RunDirectoryError, match=r"episodes.jsonl, line 2: not an entry"):
        record.read(dict)


def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_whole(path, b"old")
    with pytest.raises(RuntimeError), whole_file(path) as part:
        part.write_bytes(b"ne")
        raise RuntimeError
    assert path.read_bytes() == b"old" and not part_of(path).exists()


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_whole(path, b"old")
    with whole_file(path) as part:
        part.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"new"]
