"""One folder of a git repository, without the rest of it and without its history."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from util.errors import DownloadError

# Nothing of the user's or of the repository runs or asks: no hooks, no passwords, and links stay text files.
_SAFE = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.symlinks=false", "-c", "advice.detachedHead=false")
# Set inside a git hook; they would lead git to the repository around it.
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")


def sparse_checkout(url: str, folder: str, place: Path) -> str:
    """Check out `folder` of the newest commit of the repository at `url` into the new folder `place`.

    Returns the commit. Raises DownloadError without git 2.25 or newer, and when the repository cannot be had.
    """
    if shutil.which("git") is None:
        raise DownloadError(f"git is not installed, and {url} comes through it: install git 2.25 or newer, run again")
    clone = ["clone", "--depth", "1", "--filter", "blob:none", "--no-checkout", "--", url, str(place)]
    _git(url, *_SAFE, *clone, shown=True)
    # Before the checkout, which then asks the server for the files of this folder alone.
    _git(url, "-C", str(place), "sparse-checkout", "set", folder)
    _git(url, *_SAFE, "-C", str(place), "checkout", "--quiet", "HEAD", shown=True)
    return _git(url, "-C", str(place), "rev-parse", "HEAD")


def _git(url: str, *words: str, shown: bool = False) -> str:
    """Run git and return what it printed; `shown` leaves its progress visible on a terminal."""
    visible = shown and sys.stderr.isatty()
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    # A repository that asks for a password is an error, and no question that waits for ever.
    environment["GIT_TERMINAL_PROMPT"] = "0"
    done = subprocess.run(
        ["git", *words], stdout=subprocess.PIPE, stderr=None if visible else subprocess.PIPE, text=True, env=environment
    )
    if done.returncode:
        said = [line for line in (done.stderr or "").splitlines() if line.startswith(("fatal:", "error:", "git:"))]
        reason = said[0] if said else f"git ended with {done.returncode}"
        raise DownloadError(f"{url}: cannot be checked out ({reason}); git 2.25 or newer and a network are needed")
    return done.stdout.strip()
