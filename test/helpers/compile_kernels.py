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

from sqap_vla_ros.vlm.kernels import activations, few_rows, gemm, rotary, selection, weight_only

KERNELS = (
    activations.rotate_quantise_kernel,
    few_rows.few_rows_kernel,
    gemm.gemm_kernel,
    rotary.rotary_kernel,
    selection.row_attention_kernel,
    selection.choose_tokens_kernel,
    weight_only.weight_only_kernel,
)
_TYPES = {
    torch.bool: "i1",
    torch.uint8: "u8",
    torch.int8: "i8",
    torch.int64: "i64",
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
    residual = torch.ones(tokens, outputs, dtype=torch.bfloat16)
    gemm.int8_gemm(codes, scales, weights, w_scales, torch.ones(outputs), torch.bfloat16, residual)
    call_wrappers_of_the_static_forward()


def call_wrappers_of_the_static_forward() -> None:
    """What the fused layers and the choice of tokens add."""
    hidden = torch.ones(280, 4096, dtype=torch.bfloat16)
    activations.rotate_quantise(hidden, 1, 4, epsilon=1e-5)
    activations.rotate_quantise(torch.ones(280, 22016, dtype=torch.bfloat16), 256, 4, function="swiglu")
    for channels in (1024, 1152):
        patches = torch.ones(261, channels, dtype=torch.bfloat16)
        gain = patches[0].clone()
        activations.rotate_quantise(patches, 1, 8, epsilon=1e-6, gain=gain, shift=gain)
    activations.rotate_quantise(torch.ones(256, 4304, dtype=torch.bfloat16), 1, 8, function="gelu")
    tokens = torch.ones(34, 768, dtype=torch.float16)
    few_rows.few_rows_linear(tokens, torch.ones(2304, 768, dtype=torch.float16), tokens.new_ones(2304), epsilon=1e-6)
    inner = torch.ones(34, 3072, dtype=torch.float16)
    few_rows.few_rows_linear(inner, torch.ones(768, 3072, dtype=torch.float16), tokens[0], residual=tokens)
    weight_only.weight_only_gemm(hidden, torch.ones(12288, 2048, dtype=torch.uint8), torch.ones(12288, 1))
    heads = torch.ones(1, 280, 3, 32, 128, dtype=torch.bfloat16).permute(2, 0, 3, 1, 4)
    table = torch.ones(1, 280, 128, dtype=torch.bfloat16)
    rotary.rotate_heads(heads[0], heads[1], table, table)
    attention = selection.row_attention(heads[0], heads[1], torch.tensor([279]), 256)
    centre, valid = torch.zeros(1, 2, dtype=torch.int32), torch.ones(1, dtype=torch.bool)
    selection.choose_tokens(attention, centre, valid, keep=154, top_k=31, radius=2)


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
        "tensor_core": sorted(
            set(re.findall(r"(?:mma|tcgen05)[\w.:]*(?:s8|tf32|f16|bf16)[\w.]*", compiled.asm["ptx"]))
        ),
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
