"""Tables of typed columns in files: what kinds columns are, reading them into arrays, writing them back.

Needs pyarrow and NumPy.
"""
