"""Our gateway as it is deployed, for `bench_gateway.py`; tells its port and a key as one line of JSON.

python benchmarks/gateway_deployed.py --upstream 9000 --folder /tmp/x
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bessemer.infer import UpstreamConfig, open_engine
from bessemer.meter import MeterConfig, open_meter
from bessemer.serve import GatewayConfig, KeyStore, create_app, run_gateway


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--durability", default="interval")
    options = parser.parse_args()
    keys = KeyStore(options.folder / "keys.sqlite")
    _, secret = keys.create("benchmark")
    config = GatewayConfig(port=0, max_concurrent_requests=4096, grace_seconds=0)
    engine = open_engine(
        UpstreamConfig(base_url=f"http://127.0.0.1:{options.upstream}/v1", model="m", max_streams=4096)
    )

    def tell(url: str) -> None:
        sys.stdout.write(json.dumps({"port": int(url.rsplit(":", 1)[1]), "key": secret}) + "\n")
        sys.stdout.flush()

    with open_meter(MeterConfig(durability=options.durability), options.folder / "books") as meter:
        run_gateway(create_app(config, {"m": engine}, keys, meter), config, tell)


if __name__ == "__main__":
    main()
