-- The state of all flows, in SQL that SQLite and Postgres both know. Times are Unix seconds.

-- status: running, finished, failed, cancelled. active: digest of the declaration while it runs, so that submitting the
-- same flow again joins.
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, flow TEXT, declaration TEXT, status TEXT, error TEXT, hint TEXT,
    created_at DOUBLE PRECISION, idempotency_key TEXT UNIQUE, active TEXT UNIQUE
);

-- state: waiting, running, done, failed; for people and for retries. Whether a step is done is said by results alone.
CREATE TABLE IF NOT EXISTS steps (
    run TEXT, name TEXT, position BIGINT, state TEXT, key TEXT, attempts BIGINT, failures BIGINT,
    not_before DOUBLE PRECISION, error TEXT, hint TEXT, PRIMARY KEY (run, name)
);

-- Who attempts a key; fence counts the attempts and never falls. expires_at 0: nobody.
CREATE TABLE IF NOT EXISTS leases (
    key TEXT PRIMARY KEY, fence BIGINT, owner TEXT, queue TEXT, expires_at DOUBLE PRECISION
);

-- One row for each published result; its files are in published/<key>-<fence>.
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, fence BIGINT, step TEXT, outcome TEXT, published_at DOUBLE PRECISION
);

-- A row to lock while a queue's places are counted.
CREATE TABLE IF NOT EXISTS queues (name TEXT PRIMARY KEY);

-- What each trigger saw when it last submitted a run.
CREATE TABLE IF NOT EXISTS triggers (name TEXT PRIMARY KEY, fingerprint TEXT);
