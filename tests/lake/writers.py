"""Programs that the tests of the lake run in processes of their own, to be killed, raced or starved of disk space.

python writers.py <what> <lake> <argument>
"""

import os
import resource
import signal
import sys
from typing import Any

from bessemer.core.errors import BudgetExceeded
from bessemer.lake import open_lake
from bessemer.lake.commits import write_version
from bessemer.lake.document import make_document
from bessemer.lake.places import find_place

ROWS = 2_000


def overwrite_for_ever(lake: str, argument: str) -> None:
    """Write versions whose rows all hold one number, rising, until somebody kills us."""
    tables = open_lake(lake)
    number = int(argument)
    while True:
        tables.put("t", ({"n": number, "text": "x" * 50} for _ in range(ROWS)))
        number += 1
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


def die_before_the_tag(lake: str, argument: str) -> None:
    """Append one row under a tag and die between the commit and the tag."""

    def die(dataset: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    rows = [{"n": int(argument)}]
    write_version(find_place(lake, None), "t", rows, schema=None, mode="append", tag="once", finish=die)


def append(lake: str, argument: str) -> None:
    """Append twenty rows one by one, and one under a tag that all appenders share."""
    tables = open_lake(lake)
    for number in range(20):
        tables.put("t", [{"who": int(argument), "n": number}], mode="append")
        tables.put("shared", [{"n": 1}], mode="append", tag="once")


def overwrite_under_tags(lake: str, argument: str) -> None:
    """Write versions of a table that others write too, each under its own tag, then one under a tag of all."""
    tables = open_lake(lake)
    for number in range(8):
        who = f"{argument}-{number}"
        documents = [make_document(who, f"document {n} of {who}", title=f"t{n}", group="g") for n in range(3)]
        version = tables.put_documents("docs", documents, tag=who)
        if list(tables.get_documents("docs", version=version)) != documents:
            sys.exit(f"version {version} does not hold what {who} wrote")
        tables.put_documents("twins", documents[:0], tag=str(number))


def fill_the_disk(lake: str, argument: str) -> None:
    """Write more than a file may hold, and leave with 7 if the error says so."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        open_lake(lake).put("t", ({"n": n, "text": os.urandom(500).hex()} for n in range(5_000)))
    except BudgetExceeded:
        sys.exit(7)


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2], sys.argv[3])
