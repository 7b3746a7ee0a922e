"""The kernels compile for every generation of tensor cores, which needs no GPU."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from paths import HELPERS, ROOT

# A100, and with the same instructions RTX 3090, 4090 and Jetson Orin; H100 and H200; B200; RTX 5090.
CAPABILITIES = (80, 90, 100, 120)
# Of the smallest, RTX 3090, 4090 and 5090, for one program.
SHARED_BYTES = 99 * 1024


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each kernel uses on each GPU; compiled in another process, where Triton is not interpreted."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    command = [sys.executable, str(HELPERS / "compile_kernels.py"), *map(str, CAPABILITIES)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_product_runs_on_integer_tensor_cores(kernels: list[dict[str, Any]], capability: int) -> None:
    found = [k["tensor_core"] for k in kernels if k["kernel"] == "gemm_kernel" and k["capability"] == capability]
    assert found
    assert all(len(names) == 1 and "s32.s8.s8" in names[0] for names in found), found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_rotation_runs_on_tensor_cores(kernels: list[dict[str, Any]], capability: int) -> None:
    found = [
        k["tensor_core"] for k in kernels if k["kernel"] == "rotate_quantise_kernel" and k["capability"] == capability
    ]
    assert sum("tf32" in "".join(names) for names in found) == 4, found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["few_rows_kernel", "weight_only_kernel"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_float_products_run_on_tensor_cores(kernels: list[dict[str, Any]], capability: int, name: str) -> None:
    found = [k["tensor_core"] for k in kernels if k["kernel"] == name and k["capability"] == capability]
    assert found
    assert all("f16" in "".join(names) for names in found), found


@pytest.mark.timeout(900)
def test_every_kernel_fits_the_shared_memory_of_the_smallest_gpus(kernels: list[dict[str, Any]]) -> None:
    assert [kernel for kernel in kernels if kernel["shared_bytes"] > SHARED_BYTES] == []


@pytest.mark.timeout(900)
def test_no_kernel_spills_its_registers(kernels: list[dict[str, Any]]) -> None:
    assert [kernel for kernel in kernels if kernel["spilled_bytes"]] == []
