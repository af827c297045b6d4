"""Meaning of a kernel's name: a readable name, the kind of work, the matrix instruction's shape and type.

PyTorch, cuDNN, cuBLAS, CUTLASS and Triton put it into the name; there is no other place for it in a report.
"""

import re
from functools import cache

_SHAPE = re.compile(r"tensor(\d+)x(\d+)x(\d+)")
# s1688gemm, s16816fprop, d884gemm, h884gemm: the letter is the accumulator's type, the digits are M, N, K.
_COMPACT = re.compile(r"(?<![a-z0-9])[shdi](884|1684|1688|16816|16832|16864)(?=[a-z_])")
_MNK = {
    "884": (8, 8, 4),
    "1684": (16, 8, 4),
    "1688": (16, 8, 8),
    "16816": (16, 8, 16),
    "16832": (16, 8, 32),
    "16864": (16, 8, 64),
}
_TYPES = (
    ("tensor_tf32", re.compile(r"tf32")),
    ("tensor_bf16", re.compile(r"bf16|bfloat16", re.I)),
    ("tensor_fp8", re.compile(r"e4m3|e5m2|fp8", re.I)),
    ("tensor_fp16", re.compile(r"(?<![a-z])f16|fp16|half|h1688|h16816|h884", re.I)),
    ("tensor_fp64", re.compile(r"f64|dgemm|d884|double", re.I)),
    ("tensor_int", re.compile(r"(?<![a-z])[si]8(?!\d)|int8|(?<![a-z])i\d+gemm|igemm", re.I)),
)


@cache
def mma_shape(kernel: str) -> tuple[int, int, int] | None:
    """Return M, N, K of the matrix instruction named in a kernel's name (`tensor16x8x8`, `s16816gemm`), else None."""
    if match := _SHAPE.search(kernel):
        m, n, k = map(int, match.groups())
        return m, n, k
    if match := _COMPACT.search(kernel):
        return _MNK[match[1]]
    return None


_WMMA = re.compile(
    r"(?<![a-z0-9])[shdi]?(161616|32816|83216|16168)gemm|wmma[\w<, ]*?(16x16x16|32x8x16|8x32x16|16x16x8)"
)


@cache
def flop_per_inst(kernel: str, compute_capability: str) -> float:
    """Return the FLOPs of one tensor instruction (SASS) by the shape in a kernel's name, NaN where it has none.

    A wmma operation of 16x16x16 is several instructions, whose size the GPU decides: 16x8x8 on Turing, 16x8x16 later
    (TF32: 16x8x8). On 7.0 an HMMA.884 is done in four steps of 512 FLOPs each, whatever the name says.
    """
    if shape := mma_shape(kernel):
        # M N K multiply-adds of 2 FLOPs each.
        return 2.0 * shape[0] * shape[1] * shape[2]
    if _WMMA.search(kernel) is None:
        return float("nan")
    # Volta: M, N, K in the name are those of the wmma, not of a step.
    if _number(compute_capability) < 7.5:
        return 512.0
    depth = 8 if compute_capability == "7.5" or tensor_type(kernel, compute_capability) == "tensor_tf32" else 16
    return 2.0 * 16 * 8 * depth


#: The oldest GPU that a library built a kernel for, by the beginning of its name.
_ARCHITECTURES = (
    (re.compile(r"cutlass_(\d)(\d)_|(?<![a-z0-9])sm(\d)(\d)_|sm(10)(0)_|sm(12)(0)_"), ""),
    (re.compile(r"(?<![a-z])volta_"), "7.0"),
    (re.compile(r"(?<![a-z])turing_"), "7.5"),
    (re.compile(r"(?<![a-z])ampere_"), "8.0"),
    (re.compile(r"(?<![a-z])hopper_|wgmma"), "9.0"),
)


@cache
def capability_in(kernel: str) -> str:
    """Return the compute capability that a kernel's name says it was built for, else nothing."""
    for pattern, capability in _ARCHITECTURES:
        if match := pattern.search(kernel):
            return capability or ".".join(filter(None, match.groups()))
    return ""


@cache
def tensor_type(kernel: str, compute_capability: str = "8.0") -> str:
    """Return the tensor unit (a key of UNITS, or "tensor_int") that a kernel's matrix instructions use.

    A name without a type (`cutlass_80_tensorop_s1688gemm`) means TF32 for 16x8x8 and 16x8x4 from capability 8.0 on:
    the half-precision kernels of that shape say fp16. Everything else without a type is FP16, the first type there was.
    """
    # In this order: a TF32 kernel also has f32 in its name, one for bf16 may have f16.
    for unit, pattern in _TYPES:
        if pattern.search(kernel):
            return unit
    if mma_shape(kernel) in ((16, 8, 8), (16, 8, 4)) and _number(compute_capability) >= 8:
        return "tensor_tf32"
    return "tensor_fp16"


@cache
def does_half_math(kernel: str) -> bool:
    """Say whether a name promises arithmetic in half2 on the CUDA cores (cuBLAS' hgemm, kernels that say half2)."""
    return re.search(r"hgemm|half2|hfma2|h2_kernel|simt_h", kernel) is not None


@cache
def has_half_type(kernel: str) -> bool:
    """Say whether a kernel works on half or bfloat16 values."""
    return re.search(r"[hH]alf|bfloat16|BFloat16|fp16|bf16|(?<![a-z])f16", kernel) is not None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


# The first that matches wins: the kind of work, and how the kernel is called in a table. "{}" takes the details.
_KINDS = (
    (r"nccl", "communication", "NCCL {}"),
    (
        r"^(?!triton_(?:poi|red|per)).*(flash_|flash::|fmha|sdpa|[aA]ttention|[aA]ttn|[pP]aged_?[kK][vV]|mha_)",
        "attention",
        "attention {}",
    ),
    (r"dgrad|wgrad|fprop|conv2d|conv_depthwise|convolve|cudnn.*conv|winograd|implicit_gemm", "convolution", "conv {}"),
    (r"nchwToNhwc", "layout", "nchw to nhwc {}"),
    (r"nhwcToNchw", "layout", "nhwc to nchw {}"),
    (r"nll_loss|binary_cross_entropy|smooth_l1|cross_entropy", "loss", "{}"),
    (r"cdist", "matcher cost", "cdist {}"),
    (r"multi_tensor_apply|adam|sgd|lpnorm", "optimizer", "{}"),
    (r"dropout", "dropout", "dropout {}"),
    (r"layer_norm|GammaBeta|LayerNorm|RowwiseMoments", "normalization", "{}"),
    (r"batch_norm|bn_fw|bn_bw|BatchNorm", "normalization", "{}"),
    (r"[sS]oft[mM]ax", "softmax", "{}"),
    (r"gemm|nvjet|cutlass|_mm_|gemv|splitK", "matrix product", "{}"),
    (r"CatArrayBatchedCopy", "copy", "cat {}"),
    (r"direct_copy|copy_kernel|Memcpy|memcpy", "copy", "copy {}"),
    (r"FillFunctor|Memset|memset", "copy", "fill {}"),
    (r"index|gather|scatter|[tT]opK|sort|scan|nonzero|masked", "index and sort", "{}"),
    (r"reduce", "reduction", "{}"),
    (r"pool", "pooling", "{}"),
    (r"interpolate|upsample", "resize", "{}"),
    (r"elementwise|triton_poi", "elementwise", "{}"),
    (r"triton_(red|per)", "reduction", "{}"),
)
_COMPILED = tuple((re.compile(pattern), family, label) for pattern, family, label in _KINDS)


@cache
def family(kernel: str) -> str:
    """Return the kind of work a kernel does, "other" for names that say nothing."""
    return _kind(kernel)[0]


@cache
def readable(kernel: str) -> str:
    """Return a short name that tells kernels apart: direction, type and tile of a matrix kernel, functor of others."""
    kind, label = _kind(kernel)
    if kind == "attention":
        return _attention(kernel)
    if kind in ("convolution", "matrix product") and (details := _matrix_details(kernel)):
        return f"{'conv' if kind == 'convolution' else 'gemm'} {details}"
    # The function's own name, where neither direction nor tile says more.
    base = _base_name(kernel)
    details = " ".join(part for part in (_functor(kernel), _type_name(kernel)) if part)
    if kind == "convolution":  # neither direction nor tile in the name: its function and its numbers tell it apart
        return " ".join(filter(None, ("conv", base, details, _template_numbers(kernel))))
    if label != "{}":
        return label.format(details).strip()
    return " ".join(part for part in (base, details) if part)


def _attention(kernel: str) -> str:
    """Return the readable name of an attention kernel: paged or not, direction, type, and its template's numbers."""
    backward = re.search(r"bprop|bwd|[bB]ackward", kernel)
    forward = re.search(r"fprop|fwd|[fF]orward", kernel)
    direction = "backward" if backward else "forward" if forward else ""
    kind = "bf16" if re.search(r"bf16|bfloat16|BFloat16", kernel) else "fp16" if has_half_type(kernel) else ""
    base = "" if direction else re.sub(r"(paged|attention|_)+", " ", _base_name(kernel)).strip()
    paged = "paged" if re.search(r"[pP]aged", kernel) else ""
    tile = re.search(r"_(\d+x\d+(?:x\d+)?)_", kernel)
    numbers = tile[1] if tile else _template_numbers(kernel)
    return " ".join(filter(None, ("attention", paged, base, direction, kind, numbers)))


def _template_numbers(kernel: str) -> str:
    """Return the first numbers among a kernel's template arguments, 128x64x32: instances differ in nothing else."""
    # From the first < to the last >: nested templates stay inside.
    arguments = kernel.partition("<")[2].rpartition(">")[0]
    numbers = re.findall(r"(?:\(int\)|(?<=[<, ]))(\d+)(?=[,> ]|$)", arguments)
    return "x".join(numbers[:3])


def _kind(kernel: str) -> tuple[str, str]:
    for pattern, kind, label in _COMPILED:
        if pattern.search(kernel):
            return kind, label
    return "other", "{}"


def _matrix_details(kernel: str) -> str:
    direction = re.search(r"fprop|dgrad|wgrad", kernel)
    # cuDNN writes tilesize128x64, cuBLAS _128x64_; the first that is there counts.
    tile = re.search(r"tilesize(\d+x\d+)|_(\d+x\d+)_|_(\d+x\d+)", kernel)
    if direction is None and tile is None:
        return ""
    kind = tensor_type(kernel).removeprefix("tensor_") if mma_shape(kernel) else _simt_type(kernel)
    marks = [mark for mark in ("strided", "indexed") if f"_{mark}" in kernel]
    size = next((group for group in tile.groups() if group), "") if tile else ""
    # Whether either matrix is transposed: n as it is, t transposed.
    layout = re.search(r"_(nn|nt|tn|tt)(?:_|$)", kernel)
    parts = [direction[0] if direction else "", kind, size, layout[1] if layout else "", *marks[:1]]
    return " ".join(part for part in parts if part)


def _simt_type(kernel: str) -> str:
    match = re.search(r"(?<![a-z])([sdh])gemm", kernel)
    if match:
        return {"s": "fp32", "d": "fp64", "h": "fp16"}[match[1]]
    return "fp32" if "float" in kernel else ""


def _base_name(kernel: str) -> str:
    """Return the function's own name without return type, namespaces, template arguments and parameters."""
    name = re.sub(r"^(void|static|__global__)\s+", "", kernel.strip())
    name = re.sub(r"<unnamed>::|\(anonymous namespace\)::", "", name)
    # Up to the first template argument or parameter; then the last part of the namespaces.
    name = re.split(r"[<(]", name, maxsplit=1)[0].split("::")[-1].strip()
    name = re.sub(r"_?[kK]ernel(_?cuda)?(_?impl)?|_cuda(_impl)?$|^cunn_", "", name)
    return name.strip("_")[:32] or re.split(r"[<(]", kernel)[0][:32]


def _functor(kernel: str) -> str:
    """Return the operation of an elementwise or reduction kernel: MulFunctor -> mul, MeanOps -> mean."""
    for match in re.finditer(r"(\w+?)(?:Functor|Ops?)(?=<|>|,)", kernel):
        word = match[1].split("_")[-1]
        # BinaryFunctor is only the frame around the operation's own functor, which comes later in the name.
        if word not in ("", "Binary", "Unary", "Reduce", "AUnary", "BUnary", "Ternary", "InnerReduce"):
            return word.lower()
    named = re.search(r"(\w+?)_kernel_(?:cuda|impl)", kernel)
    if named is None or "elementwise" not in kernel or named[1] in ("gpu", "direct_copy"):
        return ""
    return named[1].split("_")[-1]


_TYPE_NAMES = (("c10::Half", "half"), ("__half", "half"), ("BFloat16", "bf16"), ("__nv_bfloat16", "bf16"))


def _type_name(kernel: str) -> str:
    for spelling, name in _TYPE_NAMES:
        if spelling in kernel:
            return name
    match = re.search(r"<(float|double|long|int|bool|unsigned char)\b", kernel)
    return {"float": "", "unsigned char": "uint8"}.get(match[1], match[1]) if match else ""
