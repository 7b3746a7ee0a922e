"""Tensors of a checkpoint, checked against the published layout and moved into modules one at a time.

This module does not know what the tensors mean: the networks state which names and shapes they expect (`Layout`) and
which tensor each of their parameters comes from (`Source`). A tensor is copied to its final dtype and device, then the
mapped pages that it came from are released, so that host memory holds the weights at most once.
"""

import ctypes
import mmap
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]

# Numbers of attention heads by published width; no tensor's shape shows them.
PUBLISHED_HEADS: Mapping[str, Mapping[int, int]] = {
    "dino_heads": {1024: 16},
    "siglip_heads": {1152: 16},
    "llm_heads": {4096: 32},
    "dit_heads": {384: 4, 768: 12, 1024: 16},
}
ARCHITECTURE_KEYS = frozenset(PUBLISHED_HEADS) | {"llm_kv_heads"}


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Layout:
    """Names and shapes of one part of a checkpoint.

    Attributes:
        required: Tensors that must be there.
        optional: Tensors of the published checkpoint that do not influence actions; they may be absent.
    """

    required: Mapping[str, Shape]
    optional: Mapping[str, Shape] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Where a module's parameter comes from.

    Attributes:
        name: Tensor in the checkpoint.
        third: 0, 1 or 2 for the query, key or value rows of a fused projection; None for the whole tensor.
    """

    name: str
    third: int | None = None


class Part:
    """One part of a checkpoint: a flat mapping of names to tensors.

    Args:
        name: Name of the part for messages, e.g. "action_model".
        tensors: The part's tensors, by published name.
        mapped: Whether the tensors are views of a read-only file mapping, whose pages are released after use.

    Raises:
        CheckpointError: An entry is not a dense floating-point tensor.
    """

    def __init__(self, name: str, tensors: Mapping[str, Tensor], *, mapped: bool = False) -> None:
        for key, tensor in tensors.items():
            if not (isinstance(tensor, Tensor) and tensor.layout is torch.strided and tensor.is_floating_point()):
                kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
                raise CheckpointError(f"{name}: '{key}' is {kind}, expected a dense floating-point tensor")
        self.name = name
        self.tensors = tensors
        self._mapped = mapped

    def size(self, suffix: str, axis: int, dimensions: int) -> int:
        """The size along an axis that most tensors with this name's ending agree on.

        All blocks are asked, not only the first one, so that `check` can name a single tensor that disagrees.

        Raises:
            CheckpointError: No tensor has this ending and this number of dimensions.
        """
        shapes = [tensor.shape for name, tensor in self.tensors.items() if name.endswith(suffix)]
        sizes = Counter(shape[axis] for shape in shapes if len(shape) == dimensions)
        if not sizes:
            found = f"found {_words(shapes[0])}" if shapes else "missing"
            raise CheckpointError(f"{self.name}: '{suffix}': expected a tensor of {dimensions} dimensions, {found}")
        return sizes.most_common(1)[0][0]

    def depth(self, prefix: str) -> int:
        """Number of blocks: how many different numbers follow the prefix in the tensors' names."""
        return len({name.removeprefix(prefix).split(".")[0] for name in self.tensors if name.startswith(prefix)})

    def check(self, layout: Layout) -> None:
        """Compare names and shapes.

        Raises:
            CheckpointError: Tensors are missing, unexpected or of the wrong shape; the message lists up to four.
        """
        expected = {**layout.required, **layout.optional}
        problems = [
            f"'{name}': expected {_words(shape)}, "
            + (f"found {_words(self.tensors[name].shape)}" if present else "missing")
            for name, shape in expected.items()
            if not (present := name in self.tensors)
            and name in layout.required
            or present
            and tuple(self.tensors[name].shape) != shape
        ]
        problems += [
            f"'{name}': unexpected, found {_words(tensor.shape)}"
            for name, tensor in self.tensors.items()
            if name not in expected
        ]
        if problems:
            more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
            raise CheckpointError(f"{self.name}: " + "; ".join(problems[:4]) + more)

    def load(
        self, module: nn.Module, sources: Callable[[str], Source], dtype: torch.dtype, device: torch.device | str
    ) -> None:
        """Give every parameter of a module on the meta device its tensor.

        Args:
            module: The module; its parameters have the right shapes, and are replaced without gradient.
            sources: The source of a parameter, by the parameter's name in the module.
            dtype: Dtype of the parameters.
            device: Device of the parameters.

        Raises:
            CheckpointError: A tensor has NaN or infinite values, or does not fit the dtype.
        """
        for name, _ in list(module.named_parameters()):
            source = sources(name)
            owner, _, leaf = name.rpartition(".")
            parameter = nn.Parameter(self.take(source, dtype, device), requires_grad=False)
            module.get_submodule(owner).register_parameter(leaf, parameter)
        module.eval()

    def take(self, source: Source, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        """A copy of one tensor in a dtype and on a device; its mapped pages are released.

        Raises:
            CheckpointError: The tensor has NaN or infinite values, or does not fit the dtype.
        """
        tensor = self.tensors[source.name]
        if source.third is not None:
            tensor = tensor.chunk(3)[source.third]
        taken = tensor.to(dtype=dtype, device=device, copy=True, memory_format=torch.contiguous_format)
        if not torch.isfinite(taken).all():
            if torch.isfinite(tensor).all():
                raise CheckpointError(f"{self.name}: '{source.name}' does not fit {dtype}; load it as torch.float32")
            raise CheckpointError(f"{self.name}: '{source.name}' has NaN or infinite values; take another checkpoint")
        if self._mapped:
            _release(tensor)
        return taken


def check_architecture(architecture: Mapping[str, int]) -> None:
    """Reject architecture entries that nothing reads.

    Raises:
        CheckpointError: A name is unknown, or a value is not a positive integer.
    """
    for name, value in architecture.items():
        if name not in ARCHITECTURE_KEYS:
            raise CheckpointError(f"architecture: '{name}' is not one of {sorted(ARCHITECTURE_KEYS)}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(f"architecture: {name} = {value!r}, expected a positive integer")


def attention_heads(key: str, width: int, architecture: Mapping[str, int]) -> int:
    """Number of attention heads of a transformer.

    Args:
        key: "dino_heads", "siglip_heads", "llm_heads" or "dit_heads".
        width: Channels of the transformer.
        architecture: Numbers from the checkpoint's config.json or the caller, before the published ones.

    Raises:
        CheckpointError: The number is neither published nor given for this width, or does not divide it.
    """
    heads = architecture.get(key) or PUBLISHED_HEADS[key].get(width)
    if heads is None:
        known = ", ".join(str(published) for published in PUBLISHED_HEADS[key])
        raise CheckpointError(
            f"{key}: the number of attention heads is not known for width {width} (published: {known}); "
            f'give it in config.json as "architecture": {{"{key}": …}}, or by the architecture argument'
        )
    if width % heads:
        raise CheckpointError(f"{key} = {heads} does not divide the width {width}")
    return heads


def _words(shape: Shape) -> str:
    return str(tuple(shape))


def _release(tensor: Tensor) -> None:
    # Only whole pages inside the tensor: its neighbours may share the first and the last one.
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if tensor.is_contiguous() and end > start:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
