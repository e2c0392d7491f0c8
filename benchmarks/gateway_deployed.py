"""Our gateway as it is deployed, for `bench_gateway.py`; tells its port and a key as one line of JSON.

With `--limited` the key's project has limits of requests and tokens per minute and a month's budget, large enough for
the load, and prices to spend it by.

python benchmarks/gateway_deployed.py --upstream 9000 --folder /tmp/x
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from bessemer.core.nouns import Subject
from bessemer.core.units import Money
from bessemer.infer import UpstreamConfig, open_engine
from bessemer.meter import MeterConfig, open_meter
from bessemer.products.limiting import TEMPLATE_TOKENS, worst_tariff
from bessemer.serve import Gate, GatewayConfig, GatewayParts, Tariff, Worker, create_app, open_accounts, run_gateway


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--durability", default="interval")
    parser.add_argument("--limited", action="store_true")
    options = parser.parse_args()
    accounts = open_accounts(options.folder / "keys.sqlite")
    _, secret = accounts.keys.create("benchmark")
    if options.limited:  # a minute of 100,000 requests a second
        accounts.rates.set("project", "benchmark", requests=6_000_000, tokens=6_000_000_000)
        accounts.budgets.set("project", "benchmark", "month", Money(micros=10**12))
    config = GatewayConfig(port=0, max_concurrent_requests=4096, grace_seconds=0)
    engine = open_engine(
        UpstreamConfig(base_url=f"http://127.0.0.1:{options.upstream}/v1", model="m", max_streams=4096)
    )

    def tell(url: str) -> None:
        sys.stdout.write(json.dumps({"port": int(url.rsplit(":", 1)[1]), "key": secret}) + "\n")
        sys.stdout.flush()

    with open_meter(MeterConfig(durability=options.durability), options.folder / "books") as meter:

        def pricing(subject: Subject) -> Tariff:
            now = time.time()
            return worst_tariff([meter.price_history.at(now)], subject, TEMPLATE_TOKENS, now + 60)

        gate = Gate(accounts.database, pricing, Worker(options.folder / "workers"), lambda requests: {})
        app = create_app(config, {"m": engine}, accounts.keys, meter, GatewayParts(gate=gate))
        run_gateway(app, config, tell)
        gate.close()
    accounts.close()


if __name__ == "__main__":
    main()
