//! What a gateway does when the database has lost commits that it knows: the database goes on behind all that was lost, and the gateway
//! writes back what its memory still knows of revocations.
//!
//! Nobody can write back what no gateway keeps in memory: passwords, users that were added, the audit trail.

use super::database;
use super::history::{self, Fork, History};
use super::session::Session;
use crate::auth::revocation::difference::Difference;
use crate::auth::revocation::{Cutoff, RevocationSnapshot, Subject};
use crate::auth::token_set::{Keep, RevokedToken};
use crate::clock::Clock;
use crate::config::Durability;
use crate::store::beside::latest_commit::Commit;
use crate::store::command::{Actor, Expiry, KeyRecord, RevokeToken};
use crate::store::decision;
use crate::store::error::StoreError;
use crate::store::sql::connection::Connection;
use crate::store::sql::transaction::{Apply as _, Transaction};
use crate::store::sql::{audit, cutoffs, feed, keys};

/// Unites what `memory` knows with what the database has; says at which sequence the database goes on. After it both know all of it, but for what
/// the database alone has, which is read anew.
pub(super) fn unite(
    session: &Session,
    durability: Durability,
    clock: &Clock,
    history: &History,
    memory: &RevocationSnapshot,
) -> Result<u64, StoreError> {
    let actor = Actor::gateway();
    let begin = |transaction: &Transaction<'_>| begin(transaction, history);
    let (parted, _) = database::transaction(session, durability, clock, &actor, begin)?;
    let (number, mut latest, there) = read(session)?;
    let Difference { cutoffs, tokens, keys } = memory.difference(&there, parted);
    drop(there);
    log::error!(
        "the database has lost commits: it goes on at sequence {number}, and {} cutoffs, {} revoked tokens and {} revoked keys that are known here are \
         written back; users that were added, changed or removed after sequence {parted} are to be looked at",
        cutoffs.len(),
        tokens.len(),
        keys.len()
    );
    let mut write = |work: &dyn Fn(&Transaction<'_>) -> Result<(), StoreError>| {
        let in_its_place = |transaction: &Transaction<'_>| {
            let is_another = history::newest_fork(transaction)?.is_none_or(|fork| fork.number != number);
            let (found, known) = (transaction.sequence(), number);
            if is_another { Err(StoreError::Forked { found, known }) } else { work(transaction) }
        };
        let (_, commit) = database::transaction(session, durability, clock, &actor, in_its_place)?;
        latest = commit.or(latest);
        Ok::<_, StoreError>(())
    };
    for part in cutoffs.chunks(SLICE) {
        write(&|transaction| part.iter().try_for_each(|lost| restore_cutoff(transaction, lost)))?;
    }
    for part in tokens.chunks(SLICE) {
        write(&|transaction| part.iter().try_for_each(|lost| restore_token(transaction, *lost)))?;
    }
    if !keys.is_empty() {
        let named = |key| KeyRecord { kid: format!("revoked-{key}"), fingerprint: key };
        let keys: Vec<KeyRecord> = keys.into_iter().map(named).collect();
        write(&|transaction| keys::revoke_known(transaction, &keys).map(drop))?;
    }
    latest.into_iter().for_each(|latest| history.unite(number, latest));
    Ok(number)
}

/// Lets the database go on behind all that was lost, unless somebody has done so; says up to which sequence it has what was known here.
fn begin(transaction: &Transaction<'_>, history: &History) -> Result<u64, StoreError> {
    let mut parted = 0;
    for commit in history.seen() {
        if history::has(transaction, commit)? {
            parted = commit.sequence;
            break;
        }
    }
    let known = history.known();
    let Some(latest) = known.latest.filter(|latest| latest.sequence != parted) else { return Ok(parted) };
    let is_behind_all = |fork: Fork| fork.number > latest.sequence && Some(fork.number) > known.united;
    if history::newest_fork(transaction)?.is_some_and(is_behind_all) {
        return Ok(parted);
    }
    transaction.skip_to(transaction.sequence().max(latest.sequence) + JUMP);
    let stamp = transaction.stamp();
    history::note_fork(transaction, Fork { number: stamp.sequence, known: latest.sequence })?;
    // A token whose mint was lost may have a number behind a cutoff that was set since.
    transaction.write("UPDATE marks SET number = ?1 WHERE number > ?2", (stamp.sequence, parted))?;
    audit::write(transaction, stamp, "commits_lost", "everybody", None)?;
    Ok(parted)
}

/// All that the database has: the sequence at which it went on, its latest commit, and its revocations.
fn read(session: &Session) -> Result<(u64, Option<Commit>, RevocationSnapshot), StoreError> {
    session.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    let connection = session.connection();
    let number = history::newest_fork(&connection)?.map_or(0, |fork| fork.number);
    let latest = history::latest(&connection)?;
    let mut there = RevocationSnapshot::default();
    feed::snapshot(&connection, |piece| {
        piece.apply(&mut there);
        Ok(())
    })?;
    session.finish("COMMIT")?;
    Ok((number, latest, there))
}

/// A user that was disabled, or is not there, gets no token until an operator has looked at it.
fn restore_cutoff(
    transaction: &Transaction<'_>,
    (subject, lost): &(Subject, Cutoff),
) -> Result<(), StoreError> {
    let previous = cutoffs::get(transaction, subject)?;
    let was_blocked = lost.blocked || previous.is_some_and(|previous| previous.blocked);
    let stamp = transaction.stamp();
    let blocked = match subject {
        Subject::User(name) => block_user(transaction, name, was_blocked, stamp.sequence)?,
        _ => was_blocked,
    };
    let cutoff = decision::cutoff(previous, stamp, blocked);
    let cutoff = Cutoff { time: cutoff.time.max(lost.time), ..cutoff };
    cutoffs::set(transaction, subject, cutoff, Some(RESTORED))?;
    let (_, name) = decision::audit_of(subject);
    audit::write(transaction, stamp, RESTORED, name, None)
}

/// Disables a user that was blocked; says whether it is to be blocked, as one is that is not there.
fn block_user(
    connection: &Connection<'_>,
    name: &str,
    was_blocked: bool,
    sequence: u64,
) -> Result<bool, StoreError> {
    let changed = connection.change(
        "UPDATE users SET disabled = disabled OR ?2, number = ?3 WHERE name = ?1",
        (name, was_blocked, sequence),
    )?;
    Ok(was_blocked || changed == 0)
}

fn restore_token(transaction: &Transaction<'_>, lost: RevokedToken) -> Result<(), StoreError> {
    let expiry = match lost.keep {
        Keep::Expires(time) => Expiry::At(time),
        Keep::Until(_) => {
            let max_lifetime = transaction.one("SELECT retention FROM clock", (), |row| row.get(0))?;
            Expiry::Within { max_lifetime }
        }
    };
    RevokeToken { id: lost.id, expiry, user: None }.apply(transaction).map(drop)
}

/// How the audit trail and lists call what was written back.
const RESTORED: &str = "revocation_restored";

/// How far the database goes on behind all that was given out: further than a standby lags behind.
const JUMP: u64 = 1 << 20;

/// What is written back in one transaction.
const SLICE: usize = 500;

#[cfg(test)]
mod tests;
