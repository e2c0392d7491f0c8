"""Serving a ranker: events in, rankings with reasons out. `engine` is the front door, as of every backend."""
