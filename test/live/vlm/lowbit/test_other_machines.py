"""The integer products on machines that lack something, each played by a process of its own."""

import os
import subprocess
import sys

_WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None
import torch
from sqap_vla_ros.vlm.lowbit.products import make_product
from sqap_vla_ros.vlm.lowbit.weight import round_to_nearest
weight = round_to_nearest(torch.eye(32), 4)
print(make_product(weight, 4, "float_sums").accumulate(torch.ones(32, 32, dtype=torch.int8)).sum().item())
make_product(weight, 4, "triton")
"""

_WITHOUT_VNNI = """
import torch
from sqap_vla_ros.vlm.lowbit.products import exact_on_cpu, make_product
from sqap_vla_ros.vlm.lowbit.weight import weight_from_codes

weight = weight_from_codes(torch.full((32, 4096), 127, dtype=torch.int8), torch.ones(32, 1), 8)
for bits, limit in ((4, 7), (8, 127)):
    product = make_product(weight, bits, "auto")
    codes = torch.full((3, 4096), limit, dtype=torch.int8)
    sums = product.accumulate(codes.view(torch.uint8) + product.offset if product.offset else codes)
    assert (sums == torch.tensor(127 * limit * 4096).float()).all(), (bits, exact_on_cpu(bits), sums)
print(exact_on_cpu(8))
"""


def test_without_triton_the_cpu_multiplies_and_the_gpus_product_is_refused_in_one_line() -> None:
    result = subprocess.run([sys.executable, "-c", _WITHOUT_TRITON], capture_output=True, text=True, cwd=".")
    assert result.stdout.split() == [str(7 * 32 * 32)]
    assert "TritonUnavailable: the GPU's integer kernels need the package `triton`" in result.stderr.splitlines()[-1]


def test_a_cpu_without_vnni_multiplies_exactly_too() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", _WITHOUT_VNNI]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "float_sums"
