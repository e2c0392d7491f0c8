"""Models of tables: a Gaussian copula for one table, for several related ones and for sequences, also with
differential privacy.

Fitting and sampling stand together, because each is half of one definition: what a value's latent normal is. Needs
NumPy and SciPy; the schema stands in `bessemer.core.tabular`.
"""
