-- Amounts are whole numbers: microjoules, micrograms, micro-units of a currency. The body is the entry as it was booked.
CREATE TABLE IF NOT EXISTS entries (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    run TEXT NOT NULL,
    project TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at REAL NOT NULL,
    microseconds INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    energy_class TEXT NOT NULL,
    microjoules INTEGER NOT NULL,
    microjoules_low INTEGER NOT NULL,
    microjoules_high INTEGER NOT NULL,
    micrograms INTEGER NOT NULL,
    micrograms_low INTEGER NOT NULL,
    micrograms_high INTEGER NOT NULL,
    cost_micros INTEGER NOT NULL,
    charge_micros INTEGER NOT NULL,
    currency TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS entries_started ON entries (started_at);
CREATE INDEX IF NOT EXISTS entries_run ON entries (run);
CREATE INDEX IF NOT EXISTS entries_project ON entries (project, started_at);
-- How far each segment of the journal was read, and the hash there.
CREATE TABLE IF NOT EXISTS segments (
    name TEXT PRIMARY KEY,
    offset INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash TEXT NOT NULL
) STRICT;
