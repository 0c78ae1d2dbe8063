//! What a gateway does when the database has lost commits that it knows: the database goes on behind all that was lost, and the gateway
//! writes back what its memory still knows of revocations.
//!
//! Nobody can write back what no gateway keeps in memory: passwords, users that were added, the audit trail.

use super::database;
use super::history::{self, Fork, History};
use super::questions::Questions;
use super::session::Session;
use crate::auth::revocation::difference::Difference;
use crate::auth::revocation::{Cutoff, RevocationSnapshot, Subject};
use crate::auth::time::UnixTime;
use crate::auth::token_set::{Keep, RevokedToken};
use crate::clock::Clock;
use crate::config::Durability;
use crate::store::command::{Actor, Expiry, KeyRecord, RevokeToken};
use crate::store::decision;
use crate::store::error::StoreError;
use crate::store::sql::connection::Connection;
use crate::store::sql::transaction::{Apply as _, Transaction};
use crate::store::sql::{audit, cutoffs, feed, keys, time};

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
    let Database { number, floor, there } = read(session)?;
    let Difference { cutoffs, mut tokens, keys } = memory.difference(&there, parted, number);
    drop(there);
    // One whose expiry somebody did not know may be there twice.
    tokens.sort_unstable_by_key(|token| token.id);
    tokens.dedup_by_key(|token| token.id);
    // Memory forgets by the hour, and the database each by itself: those that have expired for everybody are not missing.
    let expired = UnixTime(floor.0.saturating_sub(HOUR));
    tokens.retain(|token| !matches!(token.keep, Keep::Expires(time) if time < expired));
    log::error!(
        "the database has lost commits: it goes on at sequence {number}, and {} cutoffs, {} revoked tokens and {} keys that were activated, retired or revoked and are known here are \
         written back; users that were added, changed or removed after sequence {parted} are to be looked at",
        cutoffs.len(),
        tokens.len(),
        keys.len()
    );
    let write = |work: &dyn Fn(&Transaction<'_>) -> Result<(), StoreError>| {
        let in_its_place = |transaction: &Transaction<'_>| {
            let is_another = history::fork_number(transaction)? != number;
            let (found, known) = (transaction.sequence(), number);
            if is_another { Err(StoreError::Forked { found, known }) } else { work(transaction) }
        };
        database::transaction(session, durability, clock, &actor, in_its_place).map(drop)
    };
    for part in cutoffs.chunks(SLICE) {
        write(&|transaction| part.iter().try_for_each(|lost| restore_cutoff(transaction, lost, number)))?;
    }
    for part in tokens.chunks(SLICE) {
        write(&|transaction| restore_tokens(session, transaction, part))?;
    }
    if !keys.is_empty() {
        let (revoked, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(|(_, known)| known.is_revoked());
        let named = |(key, _)| KeyRecord { kid: format!("revoked-{key}"), fingerprint: key };
        let revoked: Vec<KeyRecord> = revoked.into_iter().map(named).collect();
        write(&|transaction| {
            keys::revoke_known(transaction, &revoked)?;
            keys::restore_uses(transaction, &others)
        })?;
    }
    // Last, so that a start after a crash before this does not count on it. What this process has seen of commits may be more than its memory has.
    write(&|transaction| history::note_written_back(transaction, number, memory.sequence()))?;
    history.begin(number, history::commits(&session.connection())?);
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
    history::note_fork(transaction, Fork { number: stamp.sequence, parted, known: 0 })?;
    // A token whose mint was lost may have a number behind a cutoff that was set since.
    transaction.write("UPDATE marks SET number = ?1 WHERE number > ?2", (stamp.sequence, parted))?;
    audit::write(transaction, stamp, "commits_lost", "everybody", None)?;
    Ok(parted)
}

/// What the database has.
struct Database {
    /// The sequence at which it went on.
    number: u64,
    /// The time that it is for everybody, at least.
    floor: UnixTime,
    there: RevocationSnapshot,
}

fn read(session: &Session) -> Result<Database, StoreError> {
    session.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    let connection = session.connection();
    let number = history::fork_number(&connection)?;
    let floor = time::read(&connection)?.floor;
    let mut there = RevocationSnapshot::default();
    feed::snapshot(&connection, |piece| {
        piece.apply(&mut there);
        Ok(())
    })?;
    session.finish("COMMIT")?;
    Ok(Database { number, floor, there })
}

/// A user that was disabled, or is not there, gets no token until an operator has looked at it. What was decided since the fork stands.
fn restore_cutoff(
    transaction: &Transaction<'_>,
    (subject, lost): &(Subject, Cutoff),
    number: u64,
) -> Result<(), StoreError> {
    let previous = cutoffs::get(transaction, subject)?;
    let is_restored = cutoffs::reason(transaction, subject)?.is_some_and(|reason| reason == RESTORED);
    if previous
        .is_some_and(|there| lost.is_covered(there, number) || (there.sequence > number && !is_restored))
    {
        return Ok(());
    }
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

/// In a few round trips for all of them.
fn restore_tokens(
    session: &Session,
    transaction: &Transaction<'_>,
    lost: &[RevokedToken],
) -> Result<(), StoreError> {
    let max_lifetime = transaction.one("SELECT retention FROM clock", (), |row| row.get(0))?;
    let revocation = |token: &RevokedToken| {
        let expiry = match token.keep {
            Keep::Expires(time) => Expiry::At(time),
            Keep::Until(_) => Expiry::Within { max_lifetime },
        };
        RevokeToken { id: token.id, expiry, user: None }
    };
    let questions = Questions::default();
    lost.iter().for_each(|token| revocation(token).foresee(&questions.connection()));
    session.ask_ahead(questions, true)?;
    lost.iter().try_for_each(|token| revocation(token).apply(transaction).map(drop))?;
    session.ask_ahead(Questions::default(), false)
}

/// How the audit trail and lists call what was written back.
const RESTORED: &str = "revocation_restored";

/// How far the database goes on behind all that was given out: further than a standby lags behind.
const JUMP: u64 = 1 << 20;

/// How long after its expiry a token has expired for every gateway, whatever their clocks, in seconds.
const HOUR: u64 = 3600;

/// What is written back in one transaction.
const SLICE: usize = 500;

#[cfg(test)]
mod leases;
#[cfg(test)]
mod losses;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
