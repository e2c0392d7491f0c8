"""Floor 0: nouns, units, protocols, config, errors, events. No I/O, no clock, no heavy import."""
