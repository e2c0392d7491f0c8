"""Texts that a model writes, row by row: columns that are drawn, filled in, written, judged; rows that are rejected say
why.

A dataset here is a graph of typed columns over any chat `Engine`. Imports nothing heavy.
"""
