"""Download a dataset from its public home, verify it, and lay it out as training needs it.

    python -m datasets.prepare {coco,cppe5,hgp} --dest DIR

What is there already is kept, so that running it again goes on where it stopped. Unfinished work lies in DIR/.prepare;
an archive that was fetched on another machine is taken from there, too.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from util.errors import DownloadError, UserError
from util.flags import FlagParser
from util.web.fetch import fetch, need_space
from util.web.progress import in_units
from util.web.unpack import unpack

from .git import sparse_checkout
from .sources import SOURCES, Archive, Piece, Repository, Source

_UNFINISHED = ".prepare"


def prepare(
    name: str, dest: Path, *, base_url: str | None = None, panoptic: bool = False, keep_archives: bool = False
) -> None:
    """Lay out the dataset `name` ("coco", "cppe5" or "hgp") in the folder `dest`.

    `base_url` is a mirror of the public home: the address in front of the archives' paths, or the repository.
    `panoptic` adds COCO's panoptic annotations. `keep_archives` leaves the downloaded files in DEST/.prepare.
    Raises DownloadError for everything that cannot be had or trusted, a full disk included.
    """
    source = SOURCES[name]
    if source.terms:
        print(f"{name}: {source.terms}", flush=True)
    with _alone(dest / _UNFINISHED) as work:
        if isinstance(source, Repository):
            _prepare_repository(source, base_url or source.base_url, dest, work)
        else:
            _prepare_archives(source, base_url or source.base_url, dest, work, panoptic, keep_archives)


def _prepare_archives(
    source: Source, base_url: str, dest: Path, work: Path, panoptic: bool, keep_archives: bool
) -> None:
    archives = source.archives + (source.panoptic if panoptic else ())
    missing = [archive for archive in archives if not _is_done(archive.name, archive.pieces, dest)]
    # Unpacked images are about as large as the archives, of which one at a time lies beside them.
    sizes = [archive.size or 0 for archive in missing]
    # What an earlier run has fetched or unpacked needs no room again.
    have = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    need_space(dest, max(0, sum(sizes) + max(sizes, default=0) - have), purpose="the dataset")
    for archive in missing:
        _prepare_archive(archive, f"{base_url.rstrip('/')}/{archive.path}", dest, work)
        if not keep_archives:
            (work / archive.name).unlink(missing_ok=True)


def _prepare_archive(archive: Archive, url: str, dest: Path, work: Path) -> None:
    """Download, unpack and put in place one archive; each of these steps is done or not done, never half."""
    unpacked = work / f"{archive.name}.unpacked"
    if not unpacked.exists():
        size = f" ({in_units(archive.size)})" if archive.size else ""
        print(f"{archive.name}: from {url}{size}", flush=True)
        fetch(url, work / archive.name, size=archive.size, checksum=archive.checksum)
        # Its name says that it is half; only the whole is renamed, so a run that is stopped starts this step anew.
        half = work / f"{archive.name}.unpacking"
        _remove(half)
        unpack(work / archive.name, half)
        # COCO's panoptic PNGs are archives inside of theirs.
        for inner in archive.inner:
            unpack(half / inner, half)
        os.replace(half, unpacked)
    _put_in_place(archive.pieces, unpacked, dest, origin=work / archive.name)


def _prepare_repository(source: Repository, url: str, dest: Path, work: Path) -> None:
    if _is_done("images and annotations", source.pieces, dest):
        return
    unpacked = work / "checkout.unpacked"
    if not unpacked.exists():
        print(f"{source.folder}: from {url}", flush=True)
        half = work / "checkout"
        _remove(half)
        commit = sparse_checkout(url, source.folder, half)
        print(f"{source.folder}: commit {commit}", flush=True)
        os.replace(half, unpacked)
    _put_in_place(source.pieces, unpacked, dest, origin=url)


def _is_done(what: str, pieces: tuple[Piece, ...], dest: Path) -> bool:
    """Return True where every piece is in place. Raises DownloadError for one with another number of files."""
    if not all((dest / piece.target).exists() for piece in pieces):
        return False
    for piece in pieces:
        _check_count(piece, dest / piece.target)
    print(f"{what}: already there", flush=True)
    return True


def _put_in_place(pieces: Iterable[Piece], unpacked: Path, dest: Path, *, origin: str | Path) -> None:
    """Move the pieces from `unpacked` to their places and remove what else came with them."""
    for piece in pieces:
        target = dest / piece.target
        if target.exists():  # moved by a run that was stopped behind it, or the user's own
            _check_count(piece, target)
            continue
        found = _find(unpacked, piece.source)
        if found is None:
            _remove(unpacked)
            raise DownloadError(f"{origin}: holds no {piece.source}; it was unpacked and removed again")
        _check_count(piece, found)
        # Renamed, not copied: a piece is in its place whole or not at all.
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(found, target)
    _remove(unpacked)


def _find(unpacked: Path, source: str) -> Path | None:
    """Return the path below `unpacked` that ends in `source`: the least deep one."""
    found = unpacked.rglob(Path(source).name)
    whole = (path for path in found if f"/{path.relative_to(unpacked).as_posix()}".endswith(f"/{source}"))
    # Archives differ in the folders around their content.
    return min(whole, key=lambda path: len(path.parts), default=None)


def _check_count(piece: Piece, folder: Path) -> None:
    if piece.files is None:
        return
    found = sum(entry.is_file() for entry in os.scandir(folder)) if folder.is_dir() else 0
    if found != piece.files:
        raise DownloadError(f"{folder}: holds {found} files instead of {piece.files}; move it away and run again")


@contextmanager
def _alone(work: Path) -> Iterator[Path]:
    """Make the folder for unfinished work, locked against a second run; removed at the end if nothing is left in it."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        with open(work / "lock", "w") as lock:
            _lock(lock.fileno(), work)
            try:
                yield work
            finally:
                # While it is still locked: after closing, a second run might have locked the same file.
                (work / "lock").unlink()
                if not any(work.iterdir()):
                    work.rmdir()
    except OSError as error:
        raise DownloadError(f"{error.filename or work}: {error.strerror or error}") from error


def _lock(descriptor: int, work: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        # The system drops the lock with the process, however that ends.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DownloadError(f"{work.parent}: another run is preparing it; wait for that one") from None
    except OSError:  # a file system without locks
        return


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def check_dataset(name: str, dest: Path) -> int:
    """Run `datasets.check`, with its sheet of images in `dest`, and return its exit code."""
    from ..check.__main__ import cli as check

    return check(["--dataset_file", name, "--data_path", str(dest), "--sheet", str(dest / "check.png")])


def get_args_parser() -> FlagParser:
    """Make the parser of this command."""
    parser = FlagParser(prog="datasets.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=tuple(SOURCES))
    parser.add_argument("--dest", required=True, type=Path, metavar="DIR", help="where the dataset goes")
    parser.add_argument("--panoptic", action="store_true", help="coco: the panoptic annotations as well (861 MB more)")
    parser.add_argument("--keep_archives", action="store_true", help="leave the downloaded files in DIR/.prepare")
    parser.add_argument("--no_check", action="store_true", help="leave out the check of the dataset at the end")
    parser.add_argument(
        "--base_url",
        metavar="URL",
        help="a mirror of the dataset's home: "
        + "; ".join(f"{name} is at {source.base_url}" for name, source in SOURCES.items()),
    )
    return parser


def cli(argv: list[str] | None = None) -> int:
    """Run from the command line: 0 when the dataset is there and can be loaded, 2 with one line otherwise."""
    parser = get_args_parser()
    args = parser.parse_args(argv)
    if args.panoptic and args.dataset != "coco":
        parser.error(f"--panoptic is for coco, not for {args.dataset}")
    if args.base_url and not args.base_url.startswith(("http://", "https://", "file://")):
        parser.error(f"--base_url {args.base_url}: not an address that starts with http://, https:// or file://")
    try:
        prepare(
            args.dataset,
            args.dest,
            base_url=args.base_url,
            panoptic=args.panoptic,
            keep_archives=args.keep_archives,
        )
        print(f"{args.dataset}: ready in {args.dest}", flush=True)
        found = 0 if args.no_check else check_dataset(args.dataset, args.dest)
    except UserError as error:
        print(f"{parser.prog}: error: {error.line()}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", flush=True)
        return 130
    return 0 if found <= 1 else found  # 1: loading repairs what the check found


if __name__ == "__main__":
    sys.exit(cli())
