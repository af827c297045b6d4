"""Downloading a checkpoint into torch hub's cache, with its hash checked."""

import hashlib
import http.client
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlparse

import torch

from ..dist.distributed import is_main_process, print_once
from ..errors import CheckpointError


def is_url(path: str | os.PathLike) -> bool:
    """Tell if `path` is an http or https address."""
    return str(path).startswith(("https://", "http://"))


def download(url: str) -> Path:
    """Return the file at `url`, downloaded to torch hub's cache unless it is there already.

    A name like `detr-r50-e632da11.pth` ends in the first digits of the file's SHA-256: they are checked, and the
    cached file is used the next time. A name without them says nothing about the content, so that file is
    downloaded every time. Raises CheckpointError when that fails.
    """
    name = Path(urlparse(url).path).name
    digits = re.search(r"-([0-9a-f]{8,})\.pth$", name)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    # By the address: `best.pth` of two servers are two files.
    path = folder / (name if digits else f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}")
    if digits and path.exists():
        return path
    print_once(f"downloading {url}")
    progress = is_main_process() and sys.stderr.isatty()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Writes to a temporary file and renames it, so that processes downloading at once do not disturb each other.
        torch.hub.download_url_to_file(url, str(path), digits and digits.group(1), progress=progress)
    except (OSError, http.client.HTTPException) as error:
        way_out = f"put a copy at {path}, or give the path of one" if digits else "give the path of a copy instead"
        raise CheckpointError(f"{url}: cannot be downloaded ({error}); {way_out}") from error
    except RuntimeError as error:  # the only one torch raises here: the hash differs
        raise CheckpointError(f"{url}: the downloaded file does not have the hash in its name") from error
    return path
