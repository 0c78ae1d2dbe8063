-- Who checks the password: 'store', or another source, of whose users `phc` is '' or the hash that is remembered.
ALTER TABLE users ADD COLUMN source TEXT NOT NULL DEFAULT 'store';
-- When a source last said that the remembered hash fits, and the number of the last transaction before it was asked. NULL: none is
-- remembered.
ALTER TABLE users ADD COLUMN remembered_at INTEGER;
ALTER TABLE users ADD COLUMN remembered_number INTEGER;
CREATE INDEX users_by_remembered ON users (remembered_number) WHERE remembered_number IS NOT NULL;

-- Cutoffs on e-mail addresses, folded: a new CHECK needs a new table.
ALTER TABLE marks RENAME TO older_marks;
CREATE TABLE marks (
    kind TEXT NOT NULL CHECK (kind = 'everybody' OR kind = 'user' OR kind = 'organization' OR kind = 'email'),
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    second INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    lived INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
INSERT INTO marks SELECT kind, name, number, second, closed, lived, reason FROM older_marks;
DROP TABLE older_marks;
CREATE INDEX marks_by_number ON marks (number);
CREATE INDEX marks_by_lived ON marks (lived);
CREATE INDEX marks_by_revocation ON marks (number) WHERE reason IS NOT NULL;

-- Changes of users that the platform was asked for and that nobody has ended yet: one row for each of those whose tokens they would end,
-- named as in marks. A change has the id of its first row.
CREATE TABLE user_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    change INTEGER,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    begun_at INTEGER NOT NULL
) STRICT;
CREATE INDEX user_changes_by_change ON user_changes (change);
CREATE INDEX user_changes_by_time ON user_changes (begun_at);

-- How long each gateway may admit anything without another heartbeat, in seconds, and the fingerprints of the keys that it verifies with.
ALTER TABLE gateways ADD COLUMN lease INTEGER NOT NULL DEFAULT 12;
ALTER TABLE gateways ADD COLUMN keys TEXT NOT NULL DEFAULT '';

-- From when on a key signs, by which transaction that was said, and until when the tokens of a retired key may last.
ALTER TABLE keys ADD COLUMN signs_from INTEGER;
ALTER TABLE keys ADD COLUMN activation INTEGER;
ALTER TABLE keys ADD COLUMN ends_at INTEGER;
