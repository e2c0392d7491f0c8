"""The twin: what a factory will take at a site, before anybody buys it, and how far off that was afterwards.

Owns the catalogues, the models of compute, network, power, failures and money, and the planner over them. Knows no
torch and no real cluster. Every prediction is an interval; every constant names its source.
"""
