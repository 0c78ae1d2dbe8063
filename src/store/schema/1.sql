-- One row: the number of the last transaction. The order of everything comes from here.
CREATE TABLE sequence (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO sequence (id, number) VALUES (1, 0);

CREATE TABLE users (
    name TEXT PRIMARY KEY,
    folded TEXT NOT NULL UNIQUE,        -- what two names share that a person would confuse
    email TEXT NOT NULL,
    organization TEXT NOT NULL,
    phc TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    credential_version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,        -- seconds since 1970, as everywhere here
    updated_at INTEGER NOT NULL,
    number INTEGER NOT NULL             -- the transaction that last changed this row
) STRICT, WITHOUT ROWID;
CREATE INDEX users_by_number ON users (number);

-- Tokens before the mark are refused; closed: all of them are.
CREATE TABLE marks (
    kind TEXT NOT NULL CHECK (kind IN ('everybody', 'user', 'organization')),
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    second INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX marks_by_number ON marks (number);

-- Which secret each kid stands for, so that a changed key file is noticed.
CREATE TABLE keys (
    kid TEXT PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    recorded_at INTEGER NOT NULL,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who did what, when and from where; failed logins are summed, so that a storm of them is a few rows.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    token_id TEXT,
    origin TEXT NOT NULL,
    count INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_subject ON audit (subject, at);
