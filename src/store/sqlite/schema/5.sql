-- What became of each token that was minted: when it ends, and which key signed it. NULL: of another action, or of an older program.
ALTER TABLE audit ADD COLUMN expires INTEGER;
ALTER TABLE audit ADD COLUMN kid TEXT;
-- What was changed, as a JSON array of field, from and to. NULL: nothing that has a value to be shown.
ALTER TABLE audit ADD COLUMN changes TEXT;

-- The tokens of a user in their order, and whose a token is.
CREATE INDEX audit_of_mints ON audit (subject, number) WHERE action = 'mint';
CREATE INDEX audit_by_token ON audit (token_id) WHERE action = 'mint';

-- What each user's name looks like, whatever the script of its letters: one row or two a user. The program that migrates a store fills it,
-- since SQL does not know.
CREATE TABLE skeletons (
    skeleton TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (skeleton, name)
) STRICT, WITHOUT ROWID;
