-- What SQLite's scripts have made by now, in PostgreSQL's words. Texts are compared by their bytes.

CREATE TABLE sequence (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    number BIGINT NOT NULL,
    wanted BIGINT NOT NULL DEFAULT 0   -- somebody waits until every gateway has applied this number
);
INSERT INTO sequence (id, number) VALUES (1, 0);

-- The last sequence of each transaction with a random number that no other history of this database has at it: a gateway that knows one finds out
-- here whether what was committed is still there.
CREATE TABLE commits (
    number BIGINT PRIMARY KEY,
    nonce BIGINT NOT NULL
);

-- Where a gateway found that commits were lost which it knew: the sequence at which the database goes on, behind all of them. Each gateway
-- that runs writes back what it knows of revocations, once for each row.
CREATE TABLE forks (
    number BIGINT PRIMARY KEY,
    parted BIGINT NOT NULL,            -- up to here nothing was lost
    known BIGINT NOT NULL              -- up to here what was lost is written back; 0: nothing is yet
);

-- Who follows, and how far it has come.
CREATE TABLE gateways (
    id TEXT COLLATE "C" PRIMARY KEY,
    applied BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    lived BIGINT NOT NULL DEFAULT 0,
    lease BIGINT NOT NULL,             -- how long it may admit anything without another heartbeat, in seconds
    keys TEXT COLLATE "C" NOT NULL DEFAULT ''   -- the fingerprints of the keys that it verifies with; '': it has not said
);
CREATE INDEX gateways_by_lived ON gateways (lived);

CREATE TABLE users (
    name TEXT COLLATE "C" PRIMARY KEY,
    folded TEXT COLLATE "C" NOT NULL UNIQUE,    -- what two names share that a person would confuse
    email TEXT COLLATE "C" NOT NULL,
    organization TEXT COLLATE "C" NOT NULL,
    phc TEXT COLLATE "C" NOT NULL,
    disabled BOOLEAN NOT NULL DEFAULT false,
    credential_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,        -- seconds since 1970, as everywhere here
    updated_at BIGINT NOT NULL,
    number BIGINT NOT NULL,            -- the transaction that last changed this row
    imported BYTEA,                    -- what the hash is recognised by that an import brought
    source TEXT COLLATE "C" NOT NULL DEFAULT 'store',
    remembered_at BIGINT,              -- when a source last said that the remembered hash fits,
    remembered_number BIGINT           -- and the number of the last transaction before it was asked
);
CREATE INDEX users_by_number ON users (number);
CREATE INDEX users_by_organization ON users (organization);
CREATE INDEX users_by_remembered ON users (remembered_number) WHERE remembered_number IS NOT NULL;

-- Revocation cutoffs: tokens before one are refused; closed: all of them are.
CREATE TABLE marks (
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('everybody', 'user', 'organization', 'email')),
    name TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    second BIGINT NOT NULL,
    closed BOOLEAN NOT NULL,
    lived BIGINT NOT NULL DEFAULT 0,
    reason TEXT COLLATE "C",           -- NULL: for a new user, which is not a revocation
    PRIMARY KEY (kind, name)
);
CREATE INDEX marks_by_number ON marks (number);
CREATE INDEX marks_by_lived ON marks (lived);
CREATE INDEX marks_by_revocation ON marks (number) WHERE reason IS NOT NULL;

-- Tokens revoked one by one; remembered until `keep`.
CREATE TABLE revoked_tokens (
    token_id BYTEA PRIMARY KEY,        -- 16 bytes
    keep BIGINT NOT NULL,
    dated BOOLEAN NOT NULL,            -- true: `keep` is the token's expiry; false: by then it has expired for certain
    "user" TEXT COLLATE "C",           -- whose it was, where that is known
    number BIGINT NOT NULL,
    lived BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX revoked_tokens_by_number ON revoked_tokens (number);
CREATE INDEX revoked_tokens_by_lived ON revoked_tokens (lived);
CREATE INDEX revoked_tokens_by_user ON revoked_tokens ("user", number) WHERE "user" IS NOT NULL;

-- How many revoked tokens of each user are kept, exact for all that add and delete them.
CREATE TABLE revocation_counts (
    "user" TEXT COLLATE "C" PRIMARY KEY,
    tokens BIGINT NOT NULL
);
CREATE FUNCTION count_revoked_token() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO revocation_counts ("user", tokens) VALUES (new."user", 1)
            ON CONFLICT ("user") DO UPDATE SET tokens = revocation_counts.tokens + 1;
    ELSE
        UPDATE revocation_counts SET tokens = tokens - 1 WHERE "user" = old."user";
        DELETE FROM revocation_counts WHERE "user" = old."user" AND tokens = 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER revoked_token_added AFTER INSERT ON revoked_tokens
    FOR EACH ROW WHEN (new."user" IS NOT NULL) EXECUTE FUNCTION count_revoked_token();
CREATE TRIGGER revoked_token_deleted AFTER DELETE ON revoked_tokens
    FOR EACH ROW WHEN (old."user" IS NOT NULL) EXECUTE FUNCTION count_revoked_token();

-- Which secret each kid stands for, so that a changed key file is noticed.
CREATE TABLE keys (
    kid TEXT COLLATE "C" PRIMARY KEY,
    fingerprint BYTEA NOT NULL,
    recorded_at BIGINT NOT NULL,
    revoked_at BIGINT,                 -- from then on it verifies nothing
    number BIGINT NOT NULL,
    signs_from BIGINT,                 -- it was activated for then
    activation BIGINT,                 -- by the transaction of that number
    ends_at BIGINT                     -- retired: it signs nothing, and verifies no token that ends later
);

-- Order comes from the sequence, deletion from the time that the store has lived through; the wall clock decides neither.
CREATE TABLE clock (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    lived BIGINT NOT NULL,             -- seconds that gateways have run on this store
    floor BIGINT NOT NULL,             -- seconds since 1970: now is never before this
    expired_below BIGINT NOT NULL,     -- tokens below this number have expired, whatever their exp says
    forgettable BIGINT NOT NULL,       -- what was revoked before this lived time was about such tokens only
    retention BIGINT NOT NULL          -- the longest that any gateway asked for, in seconds of lived time
);
INSERT INTO clock (id, lived, floor, expired_below, forgettable, retention) VALUES (1, 0, 0, 0, 0, 0);

-- Once an hour of lived time: the number of the last transaction.
CREATE TABLE hours (
    lived BIGINT PRIMARY KEY,
    number BIGINT NOT NULL
);
INSERT INTO hours (lived, number) VALUES (0, 0);

-- Who did what, when and from where; failed logins are summed, so that a storm of them is a few rows.
CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    lived BIGINT NOT NULL DEFAULT 0,
    actor TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    token_id TEXT COLLATE "C",
    origin TEXT COLLATE "C" NOT NULL,
    count BIGINT NOT NULL,
    claimed TEXT COLLATE "C",          -- who the actor says it is acting for: the account that ran sudo
    operator BOOLEAN NOT NULL DEFAULT false,
    expires BIGINT,                    -- of a mint: when the token ends,
    kid TEXT COLLATE "C",              -- and which key signed it
    changes TEXT COLLATE "C"           -- what was changed, as a JSON array of field, from and to
);
CREATE INDEX audit_by_time ON audit (at, id);
CREATE INDEX audit_by_share ON audit (operator, actor, action, id);
CREATE INDEX audit_of_mints ON audit (subject, number) WHERE action = 'mint';
CREATE INDEX audit_by_token ON audit (token_id) WHERE action = 'mint';

-- How many rows each share has, of those up to audit_counted.through. Pruning counts; a trigger keeps it exact when rows are deleted.
CREATE TABLE audit_shares (
    operator BOOLEAN NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    size BIGINT NOT NULL,
    PRIMARY KEY (operator, actor, action)
);
CREATE INDEX audit_shares_by_size ON audit_shares (operator, size);
CREATE TABLE audit_counted (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    through BIGINT NOT NULL,
    clients BIGINT NOT NULL,
    operators BIGINT NOT NULL
);
INSERT INTO audit_counted (id, through, clients, operators) VALUES (1, 0, 0, 0);
CREATE FUNCTION uncount_audit_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF old.id <= (SELECT through FROM audit_counted) THEN
        UPDATE audit_shares SET size = size - 1
            WHERE operator = old.operator AND actor = old.actor AND action = old.action;
        DELETE FROM audit_shares
            WHERE operator = old.operator AND actor = old.actor AND action = old.action AND size = 0;
        UPDATE audit_counted SET clients = clients - CASE WHEN old.operator THEN 0 ELSE 1 END,
            operators = operators - CASE WHEN old.operator THEN 1 ELSE 0 END;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_row_deleted AFTER DELETE ON audit FOR EACH ROW EXECUTE FUNCTION uncount_audit_row();

-- Where each user's tokens were minted from.
CREATE TABLE known_sources (
    "user" TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,  -- an IPv4 address or an IPv6 /64
    lived BIGINT NOT NULL,             -- when it was last seen, in lived time and to a day
    PRIMARY KEY ("user", source)
);
CREATE INDEX known_sources_by_lived ON known_sources (lived);

-- How often an operator has unlocked each user. Never lowered, also where the user is removed.
CREATE TABLE unlocks (
    "user" TEXT COLLATE "C" PRIMARY KEY,
    count BIGINT NOT NULL
);

-- What each user's name looks like, whatever the script of its letters: one row or two a user.
CREATE TABLE skeletons (
    skeleton TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (skeleton, name)
);

-- Changes of users that the platform was asked for and that nobody has ended yet: one row for each of those whose tokens they would end.
CREATE TABLE user_changes (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    change BIGINT,                     -- the id of its first row
    kind TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    begun_at BIGINT NOT NULL
);
CREATE INDEX user_changes_by_change ON user_changes (change);
CREATE INDEX user_changes_by_time ON user_changes (begun_at);

-- What changes when a standby is promoted; nothing where the server does not say.
CREATE FUNCTION current_timeline() RETURNS TEXT LANGUAGE plpgsql AS $$
BEGIN
    RETURN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
EXCEPTION WHEN OTHERS THEN
    RETURN '';
END $$;

-- As SQLite calls it.
CREATE FUNCTION unhex(digits TEXT) RETURNS BYTEA LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN decode(digits, 'hex');
