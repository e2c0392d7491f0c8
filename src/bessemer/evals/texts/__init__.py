"""How varied and how new texts are that a model wrote: near-duplicates, distinct words, self-BLEU, contamination."""
