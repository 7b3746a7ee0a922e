"""A live recording planned again: the same bits."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from live_cell import Cell

from sqap_vla_ros import cli
from sqap_vla_ros.config.robot import Topics
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.simulation.recorder import Recorder, cell_topics
from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint

MakeCell = Callable[..., Cell]
CHUNKS = 10


@pytest.mark.parametrize(("policy", "blending"), [("sqap", "none"), ("fp16", "none"), ("sqap", "real_time")])
def test_a_recording_replayed_as_recorded_gives_the_published_chunks_bit_for_bit(
    make_cell: MakeCell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    policy: str,
    blending: str,
) -> None:
    run = write_random_checkpoint(tmp_path / "run", size="tiny")
    cell = make_cell(load_policy, policy=policy, checkpoint=str(run), **{"command.blending": blending})
    recorder = Recorder(tmp_path / "bag", cell_topics(Topics(gripper_command="/gripper").in_namespace("")))
    cell.executor.add_node(recorder)
    cell.start()
    cell.spin_for_chunks(CHUNKS)
    cell.executor.remove_node(recorder)
    recorder.close()
    recorder.destroy_node()

    out = tmp_path / "out"
    arguments = ["replay", str(tmp_path / "bag"), "--as-recorded", "--policy", policy, "--checkpoint", str(run)]
    monkeypatch.setattr("sys.argv", ["sqap-vla", *arguments, "--out", str(out)])
    cli.main()
    rows = pq.read_table(out / "ticks.parquet").to_pylist()
    assert len(rows) >= CHUNKS - 2  # a chunk at either end may lack its image or mask in the recording
    assert [row["recorded_difference"] for row in rows] == [0.0] * len(rows)
    assert any(chunk.committed_steps for chunk in cell.chunks) == (blending == "real_time")
    by_stamp = {chunk.seed: chunk for chunk in cell.chunks}
    assert all(row["actions"] == list(by_stamp[row["stamp_ns"]].data) for row in rows)

    other = "fp16" if policy == "sqap" else "sqap"
    changed = [*arguments[:3], "--policy", other, "--checkpoint", str(run), "--out", str(tmp_path / "other")]
    monkeypatch.setattr("sys.argv", ["sqap-vla", *changed])
    with pytest.raises(SystemExit):
        cli.main()
    assert f"was recorded with {policy}@" in " ".join(capsys.readouterr().err.split())
