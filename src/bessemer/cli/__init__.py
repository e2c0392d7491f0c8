"""Floor 4: the verbs; the one place that reads the environment and renders progress."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the console script `bessemer`."""
    from bessemer.cli.app import run_app

    run_app()
