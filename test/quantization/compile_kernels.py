"""Compile the kernels for a GPU that is not there: `python compile_kernels.py 80 90` prints a line of JSON per kernel.

The wrappers are called as for a model, but what they would launch is compiled instead. This needs a process of its own,
in which Triton is not interpreted.
"""

import json
import re
import subprocess
import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sqap_vla_ros.quantization.kernels import activations, gemm

KERNELS = (activations.rotate_quantise_kernel, gemm.gemm_kernel)
_TYPES = {
    torch.int8: "i8",
    torch.int32: "i32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
}


def call_wrappers() -> None:
    """One call per way through the kernels, with shapes of CogACT-Base."""
    for channels, block in [(4096, 4096), (11008, 256)]:
        activations.rotate_quantise(torch.ones(280, channels, dtype=torch.float16), block, 4)
    tower = torch.ones(256, 4304, dtype=torch.bfloat16)
    activations.rotate_quantise(tower, 16, 8, epsilon=1e-6, gain=tower[0].clone())
    for tokens, outputs, channels in [(1, 4096, 4096), (256, 1152, 4304), (154, 4096, 11008), (280, 22016, 4096)]:
        codes = torch.ones(tokens, channels, dtype=torch.int8)
        scales, w_scales = torch.ones(tokens, 1), torch.ones(outputs, 1)
        halves = gemm.pack_halves(torch.ones(outputs, channels // 2, dtype=torch.uint8))
        gemm.packed_gemm(codes, scales, halves, w_scales)
    weights = torch.ones(outputs, channels, dtype=torch.int8)
    gemm.int8_gemm(codes, scales, weights, w_scales, torch.ones(outputs), torch.bfloat16)


def source(kernel: Any, args: tuple[Any, ...], constants: dict[str, Any]) -> ASTSource:
    """The kernel with the types that its arguments would have at a launch."""
    signature, attributes = {}, {}
    for index, (name, value) in enumerate(zip(kernel.arg_names, args, strict=False)):
        if isinstance(value, torch.Tensor):
            signature[name] = "*" + _TYPES[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]]
        elif isinstance(value, int):
            signature[name] = "i32"
            if value % 16 == 0 and not kernel.params[index].do_not_specialize:
                attributes[(index,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[name] = "fp32"
        else:
            constants[name] = value
    signature |= dict.fromkeys(constants, "constexpr")
    return ASTSource(kernel, {name: signature[name] for name in kernel.arg_names}, constants, attributes)


def summary(kernel: Any, capability: int, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """What a compiled kernel uses: instructions of the tensor cores, and bytes of shared memory and of spills."""
    constants = {name: options.pop(name) for name in kernel.arg_names if name in options}
    compiled = triton.compile(
        source(kernel, args, constants), target=GPUTarget("cuda", capability, 32), options=options
    )
    cuobjdump = triton.knobs.nvidia.cuobjdump.path
    cubin = triton.knobs.cache.dir + "/kernel.cubin"
    with open(cubin, "wb") as file:
        file.write(compiled.asm["cubin"])
    usage = subprocess.run([cuobjdump, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
    return {
        "kernel": kernel.__name__,
        "capability": capability,
        "tensor_core": sorted(set(re.findall(r"(?:mma|tcgen05)[\w.:]*(?:s8|tf32)[\w.]*", compiled.asm["ptx"]))),
        "shared_bytes": compiled.metadata.shared,
        "spilled_bytes": sum(map(int, re.findall(r"STACK:(\d+)", usage))),
    }


def main() -> None:
    launches: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    for kernel in KERNELS:
        kernel.run = lambda *args, kernel=kernel, grid, warmup, **options: launches.append((kernel, args, options))
    call_wrappers()
    for capability in map(int, sys.argv[1:]):
        for kernel, args, options in launches:
            print(json.dumps(summary(kernel, capability, args, dict(options))))


if __name__ == "__main__":
    main()
