"""Links from the documents to lines of code: each names the code it points at, so that it can be checked and moved.

A link is written as [`code`](../file.py#L12): line 12 of the file contains the code, and no other line does.

    python docs/line_links.py           # lists links that point elsewhere
    python docs/line_links.py --fix     # moves them to the lines with their code
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).resolve().parent
LINK = re.compile(r"\[`([^`]+)`\]\(([^)#\s]+\.py)#L(\d+)\)")


def line_of(code: str, file: Path) -> int | None:
    """Return the number of the one line of a file that contains the code; None if there is none, or several."""
    if not file.exists():
        return None
    found = [number for number, line in enumerate(file.read_text().splitlines(), start=1) if code in line]
    return found[0] if len(found) == 1 else None


def wrong_links(page: Path) -> list[str]:
    """Return a line for each link of a page that does not point at its code."""
    found = LINK.findall(page.read_text())
    return [f"{page.name}: `{c}` is not line {n} of {f}" for c, f, n in found if line_of(c, page.parent / f) != int(n)]


def moved_links(page: Path) -> str:
    """Return the text of a page with every link at the line that has its code; links that cannot be placed stay."""
    return LINK.sub(_mover(page), page.read_text())


def _mover(page: Path) -> Callable[[re.Match[str]], str]:
    def move(link: re.Match[str]) -> str:
        code, file, number = link.groups()
        return f"[`{code}`]({file}#L{line_of(code, page.parent / file) or number})"

    return move


def main(pages: list[Path], *, fix: bool) -> int:
    """Check or mend pages; the exit code is 1 if a link is wrong in the end."""
    for page in pages:
        if fix:
            page.write_text(moved_links(page))
    wrong = [line for page in pages for line in wrong_links(page)]
    print("\n".join(wrong) or f"{len(pages)} pages: every link points at its code")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fix", action="store_true", help="move links to the lines with their code")
    sys.exit(main(sorted(DOCS.glob("*.md")), fix=parser.parse_args().fix))
