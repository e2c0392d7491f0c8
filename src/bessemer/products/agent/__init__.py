"""Agents: products made of a model and tools, judged by what they do in small worlds."""
