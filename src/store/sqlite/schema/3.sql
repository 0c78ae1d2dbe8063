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
