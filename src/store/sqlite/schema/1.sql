-- One row: the number of the last transaction. The order of everything comes from here.
CREATE TABLE sequence (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL,
    wanted INTEGER NOT NULL DEFAULT 0   -- somebody waits until every gateway has applied this number
) STRICT;
INSERT INTO sequence (id, number) VALUES (1, 0);

-- Who follows, and how far it has come.
CREATE TABLE gateways (
    id TEXT PRIMARY KEY,
    applied INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

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
    -- Three comparisons: for IN, SQLite builds a table at each row, which made the check of a start twice as long.
    kind TEXT NOT NULL CHECK (kind = 'everybody' OR kind = 'user' OR kind = 'organization'),
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    second INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX marks_by_number ON marks (number);

-- Tokens revoked one by one; remembered until `keep`.
CREATE TABLE revoked_tokens (
    token_id BLOB PRIMARY KEY,          -- 16 bytes
    keep INTEGER NOT NULL,
    dated INTEGER NOT NULL,             -- 1: `keep` is the token's expiry; 0: by then it has expired for certain
    user TEXT,                          -- whose it was, where that is known
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revoked_tokens_by_number ON revoked_tokens (number);
CREATE INDEX revoked_tokens_by_keep ON revoked_tokens (keep);
CREATE INDEX revoked_tokens_by_user ON revoked_tokens (user) WHERE user IS NOT NULL;

-- Which secret each kid stands for, so that a changed key file is noticed.
CREATE TABLE keys (
    kid TEXT PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    recorded_at INTEGER NOT NULL,
    revoked_at INTEGER,                 -- from then on it verifies nothing
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
