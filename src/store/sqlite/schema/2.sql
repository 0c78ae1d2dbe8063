-- Order comes from the sequence, deletion from the time that the store has lived through; the wall clock decides neither.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    lived INTEGER NOT NULL,             -- seconds that gateways have run on this store
    floor INTEGER NOT NULL,             -- seconds since 1970: now is never before this
    expired_below INTEGER NOT NULL,     -- tokens below this number have expired, whatever their exp says
    forgettable INTEGER NOT NULL,       -- what was revoked before this lived time was about such tokens only
    retention INTEGER NOT NULL          -- the longest that any gateway asked for, in seconds of lived time
) STRICT;
-- The floor of an older store is set by whoever migrates it, who knows the time.
INSERT INTO clock (id, lived, floor, expired_below, forgettable, retention) VALUES (1, 0, 0, 0, 0, 0);

-- Once an hour of lived time: the number of the last transaction.
CREATE TABLE hours (
    lived INTEGER PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT;
INSERT INTO hours (lived, number) SELECT 0, number FROM sequence;

-- When each row that may be deleted was written, in lived time. What was there before begins to age now.
ALTER TABLE marks ADD COLUMN lived INTEGER NOT NULL DEFAULT 0;
CREATE INDEX marks_by_lived ON marks (lived);
ALTER TABLE revoked_tokens ADD COLUMN lived INTEGER NOT NULL DEFAULT 0;
CREATE INDEX revoked_tokens_by_lived ON revoked_tokens (lived);
DROP INDEX revoked_tokens_by_keep;

-- Why a cutoff was set, as the audit trail calls it. NULL: for a new user, in case there was one of that name before; that
-- is not a revocation.
ALTER TABLE marks ADD COLUMN reason TEXT;
UPDATE marks SET reason = coalesce(
    (SELECT action FROM audit
     WHERE subject = iif(kind = 'everybody', 'everybody', name) AND at = second AND audit.number = marks.number
     LIMIT 1),
    'unknown');
UPDATE marks SET reason = NULL WHERE reason = 'user_add' OR (
    reason = 'unknown' AND kind = 'user' AND EXISTS (
        SELECT 1 FROM users WHERE users.name = marks.name AND users.number = marks.number
          AND credential_version = marks.number AND created_at = updated_at));
CREATE INDEX marks_by_revocation ON marks (number) WHERE reason IS NOT NULL;

-- Whether the store knows an organization.
CREATE INDEX users_by_organization ON users (organization);

ALTER TABLE gateways ADD COLUMN lived INTEGER NOT NULL DEFAULT 0;
CREATE INDEX gateways_by_lived ON gateways (lived);

-- An id is never given out twice, also where every row was deleted: AUTOINCREMENT.
ALTER TABLE audit RENAME TO older_audit;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    lived INTEGER NOT NULL DEFAULT 0,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    token_id TEXT,
    origin TEXT NOT NULL,
    count INTEGER NOT NULL,
    claimed TEXT                        -- who the actor says it is acting for: the account that ran sudo
) STRICT;
INSERT INTO audit (id, number, at, actor, action, subject, token_id, origin, count)
    SELECT id, number, at, actor, action, subject, token_id, origin, count FROM older_audit;
DROP TABLE older_audit;
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_subject ON audit (subject, at);
