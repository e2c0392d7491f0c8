"""Who may ask for what, how fast, and for how much money: projects, service accounts, limits, budgets, the audit log.

Owns the database of accounts, in SQLite or Postgres. Knows no price and no HTTP, but in `wire` and `gate`.
"""
