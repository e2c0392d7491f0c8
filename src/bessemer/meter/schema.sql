-- Amounts are whole numbers: microjoules, micrograms, micro-units of a currency. The body is the entry as it was booked.
CREATE TABLE IF NOT EXISTS entries (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    run TEXT NOT NULL,
    project TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    service_tier TEXT NOT NULL,
    batch TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at REAL NOT NULL,
    microseconds INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    units INTEGER NOT NULL,
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
    price_version TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS entries_started ON entries (started_at);
CREATE INDEX IF NOT EXISTS entries_run ON entries (run);
CREATE INDEX IF NOT EXISTS entries_project ON entries (project, started_at);
-- Sums of the entries that began in an hour (Unix seconds of its beginning), changed together with them.
CREATE TABLE IF NOT EXISTS hours (
    hour INTEGER NOT NULL,
    part INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    project TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    service_tier TEXT NOT NULL,
    batch TEXT NOT NULL,
    status TEXT NOT NULL,
    energy_class TEXT NOT NULL,
    currency TEXT NOT NULL,
    price_version TEXT NOT NULL,
    entries INTEGER NOT NULL,
    microseconds INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    units INTEGER NOT NULL,
    microjoules INTEGER NOT NULL,
    microjoules_low INTEGER NOT NULL,
    microjoules_high INTEGER NOT NULL,
    micrograms INTEGER NOT NULL,
    micrograms_low INTEGER NOT NULL,
    micrograms_high INTEGER NOT NULL,
    cost_micros INTEGER NOT NULL,
    charge_micros INTEGER NOT NULL,
    PRIMARY KEY (
        hour, project, kind, name, key_id, model, service_tier, batch, status, energy_class, currency, price_version,
        part
    )
) STRICT, WITHOUT ROWID;
-- How far each segment of a journal was read (bytes), and the hash there.
CREATE TABLE IF NOT EXISTS segments (
    journal TEXT NOT NULL,
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (journal, name)
) STRICT;
