-- Where each user's tokens were minted from: addresses that logins may be trusted from more than others. Bounded for each user, and
-- forgotten by lived time.
CREATE TABLE known_sources (
    user TEXT NOT NULL,
    source TEXT NOT NULL,               -- an IPv4 address or an IPv6 /64
    lived INTEGER NOT NULL,             -- when it was last seen, in lived time and to a day
    PRIMARY KEY (user, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX known_sources_by_lived ON known_sources (lived);

-- How often an operator has unlocked each user. Never lowered, also where the user is removed: what was counted under a lower count
-- would be in force again.
CREATE TABLE unlocks (
    user TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the hash is recognised by that an import brought: a login replaces the hash, and the next import must not take that for
-- another password. NULL: the password did not come from an import.
ALTER TABLE users ADD COLUMN imported BLOB;
