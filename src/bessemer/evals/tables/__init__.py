"""How good, how private and how useful a synthetic table is, measured against the data and against rows held out.

Needs NumPy; usefulness also scikit-learn. The form of tables stands in `bessemer.core.tabular`.
"""
