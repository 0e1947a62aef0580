"""Whether the examples have, line by line, what the page on errors shows.

    quoted.py PAGE

A block of the page stands in the file that the comment before it names; only its indentation may differ.
"""

import re
import sys
from pathlib import Path
from textwrap import dedent, indent

BLOCK = re.compile(r"<!-- tested in (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


def stands_in(block, text):
    first = block.splitlines()[0]
    depths = {line.removesuffix(first) for line in text.splitlines() if line.endswith(first)}
    return any(depth.strip(" \t") == "" and indent(block, depth) in text for depth in depths)


def main(page):
    blocks = BLOCK.findall(Path(page).read_text())
    failed = not blocks
    for file, block in blocks:
        same = stands_in(block, Path(file).read_text())
        print(f"{'ok' if same else 'FAILED'} - {page}: what it shows is in {file}")
        failed |= not same
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
