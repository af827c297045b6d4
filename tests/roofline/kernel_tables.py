"""Tables of made-up kernels, as the charts take them."""

import numpy as np
import pandas as pd
from rooflines.table import tidy


def rows(count: int, *, section: str = "forward", seed: int = 0, flops: bool = True) -> pd.DataFrame:
    """Seeded kernels of all units, some of them without FLOPs."""
    rng = np.random.default_rng(seed)
    time, size = 10 ** rng.uniform(-6, -3, count), 10 ** rng.uniform(4, 8, count)
    table = pd.DataFrame(
        {
            "run": "r",
            "section": section,
            "kernel": [f"k{n}" for n in range(count)],
            "time_s": time,
            "bytes_hbm": size,
            "bytes_l2": 2 * size,
            "bytes_l1": 3 * size,
            "first": range(count),
            "clock_hz": 1.09e9,
        }
    )
    table["name"], table["family"] = table["kernel"], [("convolution", "copy", "softmax")[n % 3] for n in range(count)]
    if flops:
        table["fp32_flop"] = np.where(np.arange(count) % 3 == 1, 0, time * 10 ** rng.uniform(9, 12.9, count))
        table["tensor_tf32_flop"] = np.where(np.arange(count) % 3 == 0, time * 6e13, 0)
    return tidy(table)


def joined(*parts: pd.DataFrame) -> pd.DataFrame:
    return tidy(
        pd.concat(
            [part.astype({c: object for c in part.select_dtypes("category")}) for part in parts], ignore_index=True
        )
    )
