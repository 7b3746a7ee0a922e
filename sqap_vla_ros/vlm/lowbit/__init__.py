"""Low-bit linear layers: weights and activations in 4 or 8 bits, multiplied as integers.

A linear layer y = W x of the language model becomes, per token,

    y = s_x · s_w · (Q_w q),    q = round(clamp(x H / s_x)),    Q_w = round(W H / s_w),

where Q_w and q are integer codes, s_w is one scale per output channel, s_x one scale per token, and H an orthonormal
Hadamard rotation (or the identity). H appears on both sides and cancels; it spreads outliers before rounding.

When a token passes through a decoder layer, the modules are used in this order:

    layer       the decoder layer: which of its seven linear layers share an input
    linear      one quantised linear layer: rotate, quantise the token, multiply, scale
    hadamard    the rotation H, block by block
    integers    scales, rounding, and two 4-bit codes per byte
    products    Q_w q, exact, in the backends of a machine: oneDNN, float sums, Triton
    weight      Q_w and s_w as they are stored, also with rows of different widths

Once, when a checkpoint is compressed:

    transform   folds norm gains, smoothing and rotations into the weights before they are rounded
    store       writes and reads the files of a compressed checkpoint

On a GPU `vlm.runtime` runs the same codes in fewer launches, with the kernels of `vlm.kernels`.
"""
