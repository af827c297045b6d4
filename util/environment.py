"""Versions, driver and devices of this machine: what `main.py --env` prints and `env.txt` of a run's folder has."""

import argparse
import os
import platform
from collections.abc import Sequence
from typing import Any

#: Packages whose versions matter beside those of `run_info.PACKAGES`, those that one can do without last.
OTHERS = (
    *("pillow", "matplotlib", "tqdm"),
    *("timm", "transformers", "onnx", "onnxruntime", "tensorboard", "wandb", "entmax", "submitit", "av"),
)
#: Beginnings of the environment's variables that change what a run computes, or how fast, or where it is logged.
VARIABLES = (
    *("CUDA_", "CUBLAS_", "OMP_", "GOMP_", "MKL_", "NCCL_", "GLOO_", "TORCH", "PYTORCH_", "WORLD_SIZE", "PT_HPU_"),
    "WANDB_MODE",
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
    """Return a line for each fact, in columns."""
    facts = environment_facts()
    width = max(map(len, facts))
    return "\n".join(f"{name:{width}}  {value}" for name, value in facts.items())


def environment_facts() -> dict[str, str]:
    """Return facts by name; packages that are not installed are named as such. No host or user name."""
    import torch  # takes a second, and every command line is parsed through this module

    from .dist.distributed import get_world_size
    from .profiling.timing import gpu_driver
    from .runs.run_info import PACKAGES, cpu_model, describe_git, version_of

    versions = {name: version_of(name) for name in (*PACKAGES, *OTHERS)}
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
        "processes": str(get_world_size()),
    }
    for k in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(k)
        facts[f"GPU {k}"] = (
            f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, compute capability {gpu.major}.{gpu.minor}"
        )
    # By beginnings that are listed: the whole environment may hold passwords.
    return facts | {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}


def _memory() -> str | None:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):  # not Unix
        return None
