"""The gateway: OpenAI's wire over any Engine, keys, limits, and a booked entry for every answer.

Owns HTTP. Knows neither how a model computes nor what a joule costs: engines and the meter are handed in. Importing
this package loads no web framework.
"""

from bessemer.serve.config import GatewayConfig
from bessemer.serve.keys import Key, KeyStore
from bessemer.serve.running import check_port, create_app, run_gateway

__all__ = ["GatewayConfig", "Key", "KeyStore", "check_port", "create_app", "run_gateway"]
