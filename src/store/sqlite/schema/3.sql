-- How many revoked tokens of each user are kept, so that a mint reads it and counts nothing. Exact, whoever adds and deletes them.
CREATE TABLE revocation_counts (
    user TEXT PRIMARY KEY,
    tokens INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO revocation_counts (user, tokens)
    SELECT user, count(*) FROM revoked_tokens WHERE user IS NOT NULL GROUP BY user;
CREATE TRIGGER revoked_token_added AFTER INSERT ON revoked_tokens WHEN new.user IS NOT NULL BEGIN
    INSERT INTO revocation_counts (user, tokens) VALUES (new.user, 1)
        ON CONFLICT (user) DO UPDATE SET tokens = tokens + 1;
END;
CREATE TRIGGER revoked_token_deleted AFTER DELETE ON revoked_tokens WHEN old.user IS NOT NULL BEGIN
    UPDATE revocation_counts SET tokens = tokens - 1 WHERE user = old.user;
    DELETE FROM revocation_counts WHERE user = old.user AND tokens = 0;
END;

-- In their order, since one user may have very many.
DROP INDEX revoked_tokens_by_user;
CREATE INDEX revoked_tokens_by_user ON revoked_tokens (user, number) WHERE user IS NOT NULL;

-- Whether an operator did it, by a command or as the gateway itself. Such rows go last.
ALTER TABLE audit ADD COLUMN operator INTEGER NOT NULL DEFAULT 0;
UPDATE audit SET operator = 1 WHERE origin IN ('command line', 'start', 'upkeep', 'run --restored', 'demo');

-- A share: the rows of one actor and of one action. Nothing looked for a subject by the index that was here.
DROP INDEX audit_by_subject;
CREATE INDEX audit_by_share ON audit (operator, actor, action);

-- How many rows each share has, of those up to audit_counted.through. Who prunes counts, so that no mint does; a trigger keeps it
-- exact, whoever deletes rows.
CREATE TABLE audit_shares (
    operator INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (operator, actor, action)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_shares_by_size ON audit_shares (operator, size);

-- One row: up to which id rows are counted, and how many there are in all.
CREATE TABLE audit_counted (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    through INTEGER NOT NULL,
    clients INTEGER NOT NULL,
    operators INTEGER NOT NULL
) STRICT;
INSERT INTO audit_counted (id, through, clients, operators) VALUES (1, 0, 0, 0);

CREATE TRIGGER audit_row_deleted AFTER DELETE ON audit WHEN old.id <= (SELECT through FROM audit_counted) BEGIN
    UPDATE audit_shares SET size = size - 1
        WHERE operator = old.operator AND actor = old.actor AND action = old.action;
    DELETE FROM audit_shares
        WHERE operator = old.operator AND actor = old.actor AND action = old.action AND size = 0;
    UPDATE audit_counted SET clients = clients - (1 - old.operator), operators = operators - old.operator;
END;
