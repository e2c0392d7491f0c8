"""Rankers: what a history of interactions says about every item, for the model families of recommenders.

Each family is one frozen class made of arrays. None has a table of users: a user is their history, so that whoever has
one (also one that began a minute ago) is scored the same way. Training makes the arrays, serving reads them; neither
is known here. Needs numpy; `sequence` and `towers` compute without torch, too.
"""
