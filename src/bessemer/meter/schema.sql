-- What many entries have in common, kept once: who, what, how it ended, how energy, carbon and prices are known.
CREATE TABLE IF NOT EXISTS forms (
    number INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    run TEXT NOT NULL,
    project TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    service_tier TEXT NOT NULL,
    batch TEXT NOT NULL,
    status TEXT NOT NULL,
    energy_class TEXT NOT NULL,
    boundary TEXT NOT NULL,
    sensor TEXT NOT NULL,
    grid TEXT NOT NULL,
    grams_per_kilowatt_hour REAL NOT NULL,
    grid_source TEXT NOT NULL,
    cost_currency TEXT NOT NULL,
    currency TEXT NOT NULL,
    price_version TEXT NOT NULL,
    price_note TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS forms_run ON forms (run);
CREATE INDEX IF NOT EXISTS forms_project ON forms (project);
-- Amounts are whole numbers: microjoules, micrograms, micro-units of a currency. With its form, a row is the entry as it
-- was booked: `exact` has the numbers that are no whole micro-units, `subject` an id that does not follow from the
-- entry's; see rows.py.
CREATE TABLE IF NOT EXISTS entries (
    id BLOB PRIMARY KEY,
    form INTEGER NOT NULL,
    started_at REAL NOT NULL,
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
    exact BLOB NOT NULL,
    subject TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS entries_started ON entries (started_at);
CREATE INDEX IF NOT EXISTS entries_form ON entries (form, started_at);
-- Sums of the entries of a form that began in an hour and in a day (Unix seconds of its beginning), changed with them.
CREATE TABLE IF NOT EXISTS sums (
    form INTEGER NOT NULL,
    width INTEGER NOT NULL,
    start INTEGER NOT NULL,
    part INTEGER NOT NULL,
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
    PRIMARY KEY (form, width, start, part)
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
