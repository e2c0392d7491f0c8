"""The gateway: models on OpenAI's wire, with keys, limits, and a metered entry for every answer.

Owns HTTP, keys and projects. Knows no way in which a model computes and no price. Importing this package loads no
web server.
"""

from bessemer.serve.accounts.budgets import Budget, Spending
from bessemer.serve.accounts.gate import Gate
from bessemer.serve.accounts.office import Accounts, open_accounts
from bessemer.serve.accounts.projects import Project, ServiceAccount
from bessemer.serve.accounts.rates import RateLimit, Scope
from bessemer.serve.accounts.tariffs import Tariff
from bessemer.serve.accounts.workers import Worker
from bessemer.serve.config import GatewayConfig
from bessemer.serve.events import EventStore
from bessemer.serve.feedback import FeedbackStore
from bessemer.serve.gateway import create_app, open_traces, run_gateway
from bessemer.serve.keys import Key, KeyRefusal, KeyStore
from bessemer.serve.parts import GatewayParts
from bessemer.serve.rankings import RankingStore
from bessemer.serve.sockets import check_port
from bessemer.serve.webhooks import WebhookStore
from bessemer.serve.wire.store import AnswerStore
from bessemer.serve.work.config import JobsConfig
from bessemer.serve.work.office import Work, open_work

__all__ = [
    "Accounts",
    "AnswerStore",
    "Budget",
    "EventStore",
    "FeedbackStore",
    "Gate",
    "GatewayConfig",
    "GatewayParts",
    "JobsConfig",
    "Key",
    "KeyRefusal",
    "KeyStore",
    "Project",
    "RankingStore",
    "RateLimit",
    "Scope",
    "ServiceAccount",
    "Spending",
    "Tariff",
    "WebhookStore",
    "Work",
    "Worker",
    "check_port",
    "create_app",
    "open_accounts",
    "open_traces",
    "open_work",
    "run_gateway",
]
