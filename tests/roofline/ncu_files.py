"""Writes Nsight Compute's CSVs in every shape it has had, from a few kernels by hand."""

from dataclasses import dataclass, field

CONV = (
    "sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16_stage4_warpsize2x2x1_g1_"
    "tensor16x8x8_execute_kernel_cudnn_infer"
)
CAT = "void at::native::<unnamed>::CatArrayBatchedCopy<long, unsigned int, (int)1, (int)64, (int)64>(T1 *, int, T2)"
MUL = (
    "void at::native::elementwise_kernel<(int)128, (int)2, void at::native::gpu_kernel_impl_nocast<"
    "at::native::BinaryFunctor<float, float, float, at::native::binary_internal::MulFunctor<float>>>"
    "(at::TensorIteratorBase &, const T1 &)>(int, T3)"
)
NVTX = (
    "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg",
    "Id:Domain:Start/Stop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg",
)
RULES = ("Rule Name", "Rule Type", "Rule Description", "Estimated Speedup Type", "Estimated Speedup")
UNITS = {"byte": "byte", "inst": "inst", "cycle": "cycle", "cycle/second": "cycle/second", "nsecond": "nsecond"}
TENSOR = "sm__inst_executed_pipe_tensor.sum"


def op(name: str) -> str:
    """The metric of an operation of the CUDA cores."""
    return f"sm__sass_thread_inst_executed_op_{name}_pred_on.sum"


@dataclass
class Kernel:
    """One launch: metrics as (value, unit) by name."""

    name: str = MUL
    metrics: dict[str, tuple[object, str]] = field(default_factory=dict)
    id: int = 0
    process: int = 100
    grid: str = "(4, 1, 1)"
    block: str = "(128, 1, 1)"
    cc: str = "8.0"
    push_pop: tuple[str, ...] = ()
    start_end: tuple[str, ...] = ()

    @classmethod
    def counted(cls, name: str = MUL, **values: float) -> "Kernel":
        """Make a launch with bytes, time and counts; names: dram, lts, l1tex, cycles, rate, tensor, dadd ... hmul."""
        names = {
            "dram": ("dram__bytes.sum", "byte"),
            "lts": ("lts__t_bytes.sum", "byte"),
            "l1tex": ("l1tex__t_bytes.sum", "byte"),
            "cycles": ("sm__cycles_elapsed.avg", "cycle"),
            "rate": ("sm__cycles_elapsed.avg.per_second", "cycle/second"),
            "tensor": (TENSOR, "inst"),
            **{kind + o: (op(kind + o), "inst") for kind in "dfh" for o in ("add", "mul", "fma")},
        }
        values = {"dram": 1000, "lts": 2000, "l1tex": 4000, "cycles": 1e5, "rate": 1e9} | values
        extra = {key: values.pop(key) for key in list(values) if key in cls.__dataclass_fields__}
        metrics = {metric: (values.get(short, 0), unit) for short, (metric, unit) in names.items()}
        return cls(name=name, metrics=metrics, **extra)


def number(value: object) -> str:
    """A number as ncu prints it: comma thousands, at most two decimals."""
    if isinstance(value, str):
        return value
    return f"{value:,.2f}".removesuffix(".00") if value != int(value) else f"{int(value):,}"


def european(value: object) -> str:
    """Write a number where points group and a comma is the decimal sign."""
    return number(value).translate(str.maketrans(",.", ".,"))


def row(cells: list[str] | tuple[str, ...]) -> str:
    """A CSV row with every cell quoted."""
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)


def _nvtx_cells(kernel: Kernel) -> tuple[str, str]:
    def cell(names: tuple[str, ...]) -> str:
        return (
            "1 " + "".join(f' "<default domain>:{name}:none:none:none:none:none:none"' for name in names)
            if names
            else ""
        )

    return cell(kernel.push_pop), cell(kernel.start_end)


def long_rows(
    kernels: list[Kernel], *, nvtx: bool = True, write=number, section: str = "Command line profiler metrics"
) -> list[str]:
    """The rows of a long table, header first (shape of 2022 and later)."""
    head = [
        "ID",
        "Process ID",
        "Process Name",
        "Host Name",
        *(NVTX if nvtx else ()),
        "Kernel Name",
        "Context",
        "Stream",
        "Block Size",
        "Grid Size",
        "Device",
        "CC",
        "Section Name",
        "Metric Name",
        "Metric Unit",
        "Metric Value",
    ]
    lines = [row(head)]
    for k in kernels:
        start = [
            str(k.id),
            str(k.process),
            "python3.11",
            "127.0.0.1",
            *(_nvtx_cells(k) if nvtx else ()),
            k.name,
            "1",
            "7",
            k.block,
            k.grid,
            "0",
            k.cc,
            section,
        ]
        lines += [row([*start, metric, unit, write(value)]) for metric, (value, unit) in k.metrics.items()]
    return lines


def oldest_rows(kernels: list[Kernel]) -> list[str]:
    """The rows of 2019 to 2021: no grid, no capability, a kernel time."""
    head = [
        "ID",
        "Process ID",
        "Process Name",
        "Host Name",
        "Kernel Name",
        "Kernel Time",
        "Context",
        "Stream",
        "Section Name",
        "Metric Name",
        "Metric Unit",
        "Metric Value",
    ]
    lines = [row(head)]
    for k in kernels:
        start = [
            str(k.id),
            str(k.process),
            "python",
            "127.0.0.1",
            k.name,
            "2020-Jun-01 10:00:00",
            "1",
            "7",
            "Command line",
        ]
        lines += [row([*start, metric, unit, number(value)]) for metric, (value, unit) in k.metrics.items()]
    return lines


def rule_rows(kernels: list[Kernel]) -> list[str]:
    """The rows of `--set` with rules: metric rows end in a comma, rule rows have no metric."""
    lines = long_rows(kernels, nvtx=False)
    head, body = lines[0] + "," + row(RULES), [line + "," for line in lines[1:]]
    rules = []
    for k in kernels:
        start = [str(k.id), str(k.process), "python3.11", "127.0.0.1", k.name, "1", "7", k.block, k.grid, "0", k.cc]
        rules.append(
            row(
                [*start, "SpeedOfLight", "", "", "", "SOLBottleneck", "OPT", 'A "rule", with a comma', "global", "12.5"]
            )
        )
    return [head, *body, *rules]


def wide_rows(kernels: list[Kernel], *, write=number) -> list[str]:
    """The rows of `--page raw`: a column per metric, units in the second row."""
    metrics = list(dict.fromkeys(metric for k in kernels for metric in k.metrics))
    head = [
        "ID",
        "Process ID",
        "Process Name",
        "Host Name",
        "Kernel Name",
        "Context",
        "Stream",
        "Block Size",
        "Grid Size",
        "Device",
        "CC",
        *metrics,
    ]
    units = [next(k.metrics[metric][1] for k in kernels if metric in k.metrics) for metric in metrics]
    lines = [row(head), row([""] * 11 + units)]
    for k in kernels:
        values = [write(k.metrics[metric][0]) if metric in k.metrics else "n/a" for metric in metrics]
        lines.append(
            row(
                [
                    str(k.id),
                    str(k.process),
                    "python",
                    "127.0.0.1",
                    k.name,
                    "1",
                    "7",
                    k.block,
                    k.grid,
                    "0",
                    k.cc,
                    *values,
                ]
            )
        )
    return lines
