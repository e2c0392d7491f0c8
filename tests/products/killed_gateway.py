"""A gateway with its own books over the reference engine, in a process of its own that a test kills.

Usage: killed_gateway.py FOLDER [URL of the database]
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bessemer.infer import EchoConfig, open_engine
from bessemer.meter import MeterConfig, open_meter
from bessemer.products.answered import gateway_parts
from bessemer.products.home import Home
from bessemer.products.limiting import open_gate
from bessemer.products.llm.config import LlmConfig
from bessemer.serve import GatewayConfig, JobsConfig, create_app, open_accounts, open_work, run_gateway


def told(url: str) -> None:
    """Say where it answers."""
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


def main(folder: str, database_url: str = "") -> None:
    """Serve until the end; tell the URL on standard output."""
    home = Home(Path(folder) / "home", database_url)
    config = GatewayConfig(port=0)
    with ExitStack() as stack:
        work = open_work(home.work, JobsConfig(batch_streams=4), time.time, database=home.ledger_url)
        parts = gateway_parts(home, "killed", time.time, "", work, stack)
        meter = stack.enter_context(open_meter(MeterConfig(price_book=str(Path(folder) / "prices.toml")), home.books))
        meter.book_cut()
        accounts = open_accounts(home.accounts, time.time)
        gate = open_gate(accounts, home, meter.price_history, LlmConfig(), time.time)
        stack.callback(gate.close)
        engines = {"echo": open_engine(EchoConfig(token_seconds=0.002))}
        app = create_app(config, engines, accounts.keys, meter, replace(parts, accounts=accounts, gate=gate))
        run_gateway(app, config, told)


if __name__ == "__main__":
    main(*sys.argv[1:])
