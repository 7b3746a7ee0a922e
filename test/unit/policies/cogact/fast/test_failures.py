"""What a GPU cannot do is done another way; the log says so once, with what to do."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.core import gpu_failures
from sqap_vla_ros.core.gpu_failures import advice
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.policies.cogact import load as policies
from sqap_vla_ros.policies.registry import load_policy
from sqap_vla_ros.vlm import kernels
from sqap_vla_ros.vlm.kernels import kernels_run_on, probe
from sqap_vla_ros.vlm.lowbit.products import fastest_exact
from sqap_vla_ros.vlm.runtime import device
from sqap_vla_ros.vlm.runtime.device import choose_device

GPU = torch.device("cuda", 0)
OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040)."


@pytest.fixture(autouse=True)
def _nothing_said_yet() -> Iterator[None]:
    said = (kernels._proved, gpu_failures.why_torch_has_no_gpu, device._warn_once)
    for function in said:
        function.cache_clear()
    yield
    for function in said:
        function.cache_clear()


def fail_with(error: Exception) -> Any:
    def fail(*args: object, **settings: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.cuda.OutOfMemoryError("tried to allocate 20 GiB"), "nvidia-smi"),
        (RuntimeError("CUDA driver version is insufficient for CUDA runtime version"), "update the driver"),
        (RuntimeError(OLD_DRIVER), "update the driver"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "use device: cpu"),
        (RuntimeError("Failed to find C compiler. Please specify via CC environment variable."), "apt install gcc"),
        (RuntimeError("misaligned address"), "RuntimeError: misaligned address; report it"),
    ],
)
def test_advice_fits_the_failure(error: Exception, words: str) -> None:
    assert words in advice(error)


def test_a_trial_of_the_kernels_passes() -> None:
    probe.probe(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def test_a_trial_notices_an_integer_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right = probe.packed_gemm
    monkeypatch.setattr(probe, "packed_gemm", lambda *args, **settings: right(*args, **settings) + 1)
    with pytest.raises(RuntimeError, match="came out wrong"):
        probe.probe(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def test_kernels_that_do_not_compile_are_not_used_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernels, "require_triton", lambda device: None)
    monkeypatch.setattr(probe, "probe", fail_with(RuntimeError("Failed to find C compiler.")))
    with caplog.at_level(logging.WARNING):
        assert [kernels_run_on(GPU) for _ in range(3)] == [False] * 3
        assert fastest_exact(4, GPU) == "float_sums"
    (record,) = caplog.records
    assert "apt install gcc" in record.getMessage()


def test_a_gpu_that_is_too_old_for_the_kernels_plans_without_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernels, "require_triton", fail_with(kernels.TritonUnavailable("compute capability 7.5")))
    assert fastest_exact(4, GPU) == "float_sums"
    assert "compute capability 7.5" in caplog.text


@pytest.fixture
def _old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", fail_with(RuntimeError(OLD_DRIVER)))


@pytest.mark.usefixtures("_old_driver")
def test_with_a_driver_that_is_too_old_auto_is_the_cpu_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    assert [choose_device("auto") for _ in range(3)] == ["cpu"] * 3
    (record,) = caplog.records
    assert "update the driver" in record.getMessage()


@pytest.mark.usefixtures("_old_driver")
def test_a_gpu_that_is_asked_for_is_refused_with_what_is_wrong_with_the_driver() -> None:
    with pytest.raises(ConfigurationError, match="update the driver"):
        choose_device("cuda")


def test_a_machine_without_a_gpu_has_nothing_to_say(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", fail_with(RuntimeError("Found no NVIDIA driver on your system.")))
    assert choose_device("auto") == "cpu"
    assert not caplog.records


@pytest.fixture
def _full_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU on which no network has room."""
    load = policies.load_cogact

    def load_on_cpu_alone(checkpoint: Any, *, dtype: torch.dtype, device: str) -> Any:
        if device == "cuda":
            raise torch.cuda.OutOfMemoryError("tried to allocate 20 GiB")
        return load(checkpoint, dtype=dtype, device=device)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(policies, "load_cogact", load_on_cpu_alone)


@pytest.mark.usefixtures("_full_gpu")
def test_a_network_that_does_not_fit_the_gpu_plans_on_the_cpu_and_that_is_said_once(
    random_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configuration = load_configuration("libero_panda", checkpoint=str(random_run), policy="sqap", torch_threads=1)
    policy = load_policy(configuration, lambda words: None)
    assert policy.metadata.device == "cpu"
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    assert policy.plan(Observation(7, image, "open the drawer", np.eye(4), None)).actions.shape == (16, 7)
    (record,) = caplog.records
    assert "planning on the CPU" in record.getMessage() and "nvidia-smi" in record.getMessage()


@pytest.mark.usefixtures("_full_gpu")
def test_a_network_that_does_not_fit_the_gpu_that_is_asked_for_is_refused(random_run: Path) -> None:
    configuration = load_configuration("libero_panda", checkpoint=str(random_run), policy="sqap", device="cuda")
    with pytest.raises(ConfigurationError, match="out of memory"):
        load_policy(configuration, lambda words: None)
