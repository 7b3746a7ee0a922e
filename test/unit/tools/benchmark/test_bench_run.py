"""The bench measures what runs, says what does not, and leaves what it has."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sqap_vla_ros.core.errors import GpuLost
from sqap_vla_ros.core.run_directory import RunDirectoryError
from sqap_vla_ros.policies.cogact.action_head import ActionHeadShape
from sqap_vla_ros.policies.cogact.published import published_shapes
from sqap_vla_ros.policies.cogact.store import Shapes
from sqap_vla_ros.testing import networks
from sqap_vla_ros.tools.benchmark import rows, run
from sqap_vla_ros.tools.benchmark.report import result_table
from sqap_vla_ros.tools.benchmark.results import Settings
from sqap_vla_ros.tools.benchmark.roofline import Device
from sqap_vla_ros.tools.benchmark.run import Bench
from sqap_vla_ros.vlm.language import LanguageShape

pytestmark = pytest.mark.slow

RATES = Device("made up", 1e11, 1e13, 2e13)


@pytest.fixture(scope="module", autouse=True)
def _small_networks() -> Iterator[None]:
    monkeypatch = pytest.MonkeyPatch()
    published, tower = published_shapes(), {"width": 32, "depth": 3, "heads": 2, "hidden": 64}
    shapes = Shapes(
        dino=dataclasses.replace(published.dino, **tower),
        siglip=dataclasses.replace(published.siglip, **tower),
        projector_hidden=64,
        language=LanguageShape(64, 3, 2, 2, 32, 128, 32064),
        action_head=ActionHeadShape(32, 2, 2, 64, 64, action_dim=7, horizon=16),
    )
    monkeypatch.setattr(networks, "published_shapes", lambda size, depth: shapes)
    monkeypatch.setattr(run, "measured_rates", lambda device: RATES)
    yield
    monkeypatch.undo()


def bench(out: Path, *names: str, budget_s: float | None = None) -> Bench:
    return Bench(Settings("cpu", repeats=2, rows=names, budget_s=budget_s), out, lambda words: None)


@pytest.fixture(scope="module")
def two_rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Measured: pruning and W4A4 together, and the float network; not to be changed."""
    directory = tmp_path_factory.mktemp("bench")
    content = bench(directory, "both", "fp16_graph").run()
    assert (directory / "bench.png").stat().st_size > 0
    return content


@pytest.fixture(autouse=True)
def _no_plot_after_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqap_vla_ros.tools.benchmark.results.plot", lambda *_: None)


def test_every_policy_is_measured_or_says_why_not(tmp_path: Path) -> None:
    names = [name for name in rows.ROWS if name != "fp16_compiled"]  # whose compiler takes minutes
    content = bench(tmp_path, *names).run()
    assert set(content["rows"]) == set(names) - {"w4a16"}
    assert "needs a GPU" in content["skipped"]["w4a16"] and not content["failed"]
    assert content["rows"] == json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert result_table(content).row_count == len(content["rows"])


def test_the_figures_are_ratios_of_what_was_measured(two_rows: dict[str, Any]) -> None:
    measured, figures = two_rows["rows"], two_rows["figures"]
    plans = [measured[name]["plan"]["median_ms"] for name in ("fp16_graph", "both")]
    language = [measured[name]["stages"]["language"]["median_ms"] for name in ("fp16_graph", "both")]
    assert figures["e2e_speedup_both"] == plans[0] / plans[1]
    assert figures["llm_speedup_both"] == language[0] / language[1]
    assert figures["roofline_both_ms"] == sum(measured["both"]["floors_ms"].values())
    assert figures["selection_us"] > 0


@pytest.mark.parametrize("name", ["both", "fp16_graph"])
def test_without_a_gpu_the_static_forward_is_the_plain_path(two_rows: dict[str, Any], name: str) -> None:
    assert two_rows["figures"][f"chunk_error_{name}"] == 0


def test_a_policy_that_fails_costs_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = networks.random_network

    def fail(numbers: str, *settings: object) -> object:
        if numbers == "w4a4":
            raise RuntimeError("CUDA out of memory")
        return make(numbers, *settings)

    monkeypatch.setattr(run, "random_network", fail)
    content = bench(tmp_path, "both", "fp16_graph").run()
    assert content["failed"] == {"both": "RuntimeError: CUDA out of memory"}
    assert "in fail" in content["traces"]["both"]
    assert list(content["rows"]) == ["fp16_graph"]


def test_what_was_measured_is_there_when_the_rest_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*arguments: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "prepare_eager", cut_off)
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path, "both", "fp16_eager").run()
    assert list(json.loads((tmp_path / "bench.json").read_text())["rows"]) == ["both"]


def test_no_policy_is_begun_when_the_time_is_over(tmp_path: Path) -> None:
    content = bench(tmp_path, "both", budget_s=0.0).run()
    assert not content["rows"]
    assert "not begun" in content["skipped"]["both"]


def test_policies_are_added_to_those_that_were_measured_before(tmp_path: Path) -> None:
    before = bench(tmp_path, "fp16_graph").run()
    content = bench(tmp_path, "both").run()
    assert list(content["rows"]) == ["both", "fp16_graph"]
    assert content["rows"]["fp16_graph"] == before["rows"]["fp16_graph"]
    assert "e2e_speedup_both" in content["figures"]


def test_results_of_other_settings_are_refused_and_stay(tmp_path: Path) -> None:
    bench(tmp_path, "fp16_graph").run()
    before = (tmp_path / "bench.json").read_bytes()
    with pytest.raises(RunDirectoryError, match="repeats"):
        Bench(Settings("cpu", repeats=3, rows=("both",)), tmp_path, lambda line: None).run()
    assert (tmp_path / "bench.json").read_bytes() == before


def test_when_the_gpu_answers_no_more_the_rest_is_left_to_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> object:
        raise RuntimeError("CUDA error: misaligned address")

    def lose(device: object) -> None:
        raise GpuLost("the GPU answers this process no more")

    monkeypatch.setattr(run, "prepare_eager", fail)
    monkeypatch.setattr(run, "recover", lose)
    content = bench(tmp_path, "both", "fp16_eager", "fp16_graph", "random").run()
    assert list(content["rows"]) == ["both"]
    assert "misaligned" in content["failed"]["fp16_eager"]
    assert content["left"] == ["fp16_graph", "random"]


def test_a_stage_that_fails_does_not_cost_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> object:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(run, "time_selection", fail)
    content = bench(tmp_path, "both").run()
    assert content["figures"]["both_ms"] > 0
    assert "out of memory" in content["failed"]["both"]


def test_chosen_tokens_and_repeated_plans_are_compared(two_rows: dict[str, Any]) -> None:
    figures = two_rows["figures"]
    assert figures["kept_alike_both"] == 1
    assert figures["replays_differ_both"] == figures["replays_differ_fp16_graph"] == 0
    assert "kept_alike_fp16_graph" not in figures


def test_a_plain_policy_is_compared_with_the_plain_float_network(tmp_path: Path) -> None:
    content = bench(tmp_path, "fp16_plain", "fp16_graph", "random").run()
    plans = [content["rows"][name]["plan"]["median_ms"] for name in ("fp16_plain", "random")]
    assert content["figures"]["e2e_speedup_random"] == plans[0] / plans[1]
