"""Versions, driver and devices of this machine (`main.py --env`), as one would put them into a report of a fault."""

import argparse
import os
import platform
from collections.abc import Sequence
from typing import Any

#: Packages whose versions matter, those that one can do without last.
PACKAGES = (
    *("torch", "torchvision", "numpy", "scipy", "pycocotools", "pillow", "matplotlib", "tqdm", "hotcoco"),
    *("timm", "transformers", "onnx", "onnxruntime", "tensorboard", "wandb", "entmax", "submitit", "av"),
)


class PrintEnvironment(argparse.Action):
    """A flag that prints the environment and ends, as `--help` does, before anything else is looked at."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        print(describe_environment())
        parser.exit()


def describe_environment() -> str:
    """Return a line for each fact; packages that are not installed are named as such."""
    import torch  # takes a second, and every command line is parsed through this module

    from .profiling.timing import gpu_driver
    from .runs.run_info import cpu_model, describe_git, version_of

    versions = {name: version_of(name) for name in PACKAGES}
    facts = {
        "python": platform.python_version(),
        "system": f"{platform.platform()}, glibc {platform.libc_ver()[1] or 'unknown'}",
        "git": describe_git(),
        **{name: version for name, version in versions.items() if version},
        "not installed": ", ".join(name for name, version in versions.items() if not version) or "nothing",
        "CUDA of torch": torch.version.cuda or "none: a build for the CPU",
        "cuDNN": str(torch.backends.cudnn.version() or "none"),
        "driver": gpu_driver() or "no NVIDIA driver found",
        "CPU": f"{cpu_model()}, {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads",
        **({"memory": memory} if (memory := _memory()) else {}),
    }
    for k in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(k)
        facts[f"GPU {k}"] = (
            f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, compute capability {gpu.major}.{gpu.minor}"
        )
    variables = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "NCCL_DEBUG", "WANDB_MODE")
    facts |= {name: os.environ[name] for name in variables if name in os.environ}
    width = max(map(len, facts))
    return "\n".join(f"{name:{width}}  {value}" for name, value in facts.items())


def _memory() -> str | None:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):  # not Unix
        return None
