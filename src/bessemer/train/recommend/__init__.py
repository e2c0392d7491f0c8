"""Fitting rankers to interactions: popularity, neighbours, EASE, ALS, SASRec and two towers.

`fit_ranker` does what a configuration of `bessemer.train.recommend.config` says. Needs numpy and scipy; the last two
need torch.
"""
