"""Synthetic datasets: tables that look like the data and tell of none of its rows, and texts that a model writes."""
