"""Lets `python -m bessemer.cli` be the command `bessemer`."""

from bessemer.cli import main

main()
