"""Floor 3: what the factory makes, and `factory.py`, the only place where rooms are wired together."""
