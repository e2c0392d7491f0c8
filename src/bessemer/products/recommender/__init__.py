"""The recommender: from a table of events to a ranker that is served, judged against popularity."""
