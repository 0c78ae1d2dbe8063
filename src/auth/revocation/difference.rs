//! What one process knows of revocations and another store does not.

use super::key_uses::KeyUse;
use super::{Cutoff, RevocationSnapshot, Subject};
use crate::auth::keys::Fingerprint;
use crate::auth::token_set::RevokedToken;

/// What one snapshot knows and another does not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Cutoffs that the other does not have as they are here.
    pub cutoffs: Vec<(Subject, Cutoff)>,
    /// Tokens that were revoked one by one, each with an expiry in the right hour.
    pub tokens: Vec<RevokedToken>,
    /// Keys that were activated, retired or revoked.
    pub keys: Vec<(Fingerprint, KeyUse)>,
}

impl RevocationSnapshot {
    /// What is known here and not there, of cutoffs only those that were set after the sequence `since`: up to it both have the same past. The other
    /// goes on at the sequence `number`, behind all that is known here.
    pub fn difference(&self, other: &Self, since: u64, number: u64) -> Difference {
        let everybody = [(Subject::Everybody, Some(&self.everybody), Some(&other.everybody))].into_iter();
        let users = self
            .users
            .iter()
            .map(|(name, cutoff)| (Subject::User(name.into()), Some(cutoff), other.users.get(name)));
        let organizations = self.organizations.iter().map(|(name, cutoff)| {
            (Subject::Organization(name.into()), Some(cutoff), other.organizations.get(name))
        });
        let emails = self
            .emails
            .iter()
            .map(|(email, cutoff)| (Subject::Email(email.into()), Some(cutoff), other.emails.get(email)));
        let cutoffs = everybody.chain(users).chain(organizations).chain(emails);
        let missing = cutoffs.filter_map(|(subject, here, there)| {
            let is_there =
                |here: &Cutoff| there.is_some_and(|there| here == there || here.is_covered(*there, number));
            let cutoff = here.filter(|here| here.sequence > since && !is_there(here))?;
            Some((subject, *cutoff))
        });
        Difference {
            cutoffs: missing.collect(),
            tokens: self.tokens.difference(&other.tokens),
            keys: self.keys.difference(&other.keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::time::{Lived, UnixTime};
    use crate::auth::token::TokenId;
    use crate::auth::token_set::Keep;

    fn cutoff(sequence: u64) -> Cutoff {
        Cutoff { sequence, time: UnixTime(sequence), ..Cutoff::default() }
    }

    fn token(byte: u8, keep: Keep) -> RevokedToken {
        RevokedToken { id: TokenId([byte; 16]), keep, lived: Lived(7) }
    }

    #[test]
    fn the_difference_is_what_the_other_lacks_and_nothing_from_before_they_parted() {
        let [user, removed, organization, email] = [
            Subject::User("anna".into()),
            Subject::User("bert".into()),
            Subject::Organization("acme".into()),
            Subject::Email("a@acme".into()),
        ];
        let (mut here, mut there) = (RevocationSnapshot::default(), RevocationSnapshot::default());
        for subject in [&user, &organization, &email] {
            [&mut here, &mut there].into_iter().for_each(|it| it.apply_cutoff(subject.clone(), cutoff(5)));
        }
        let (dated, undated) = (Keep::Expires(UnixTime(7300)), Keep::Until(UnixTime(99)));
        [&mut here, &mut there].into_iter().for_each(|it| {
            it.revoke_tokens([token(1, dated), token(2, undated)]);
            it.revoke_key(Fingerprint([1; 32]));
        });
        assert_eq!(here.difference(&there, 0, 100), Difference::default());
        here.apply_cutoff(Subject::Everybody, cutoff(11));
        here.apply_cutoff(user.clone(), cutoff(12));
        here.apply_cutoff(removed.clone(), Cutoff { blocked: true, ..cutoff(13) });
        here.apply_cutoff(organization, cutoff(9));
        there.apply_cutoff(user.clone(), cutoff(14));
        here.revoke_tokens([token(3, dated), token(4, undated)]);
        there.revoke_tokens([token(5, dated)]);
        here.revoke_key(Fingerprint([2; 32]));
        let difference = here.difference(&there, 10, 100);
        let subjects: Vec<_> =
            difference.cutoffs.iter().map(|(subject, cutoff)| (subject, cutoff.sequence)).collect();
        assert_eq!(subjects, [(&Subject::Everybody, 11), (&user, 12), (&removed, 13)]);
        assert_eq!(difference.keys, [(Fingerprint([2; 32]), KeyUse::REVOKED)]);
        // One behind all that was lost stands for it, unless it lets a user in again.
        there.apply_cutoff(user.clone(), cutoff(100));
        there.apply_cutoff(removed.clone(), cutoff(101));
        let left = here.difference(&there, 10, 100).cutoffs.into_iter().map(|(subject, _)| subject);
        assert_eq!(left.collect::<Vec<_>>(), [Subject::Everybody, removed]);
        let [one, other] = &difference.tokens[..] else { panic!("{difference:?}") };
        assert_eq!((one.id, other.id), (TokenId([3; 16]), TokenId([4; 16])));
        // What is made of them answers as they do.
        let mut copy = RevocationSnapshot::default();
        copy.revoke_tokens(difference.tokens);
        assert!(copy.tokens.contains(TokenId([3; 16]), UnixTime(7300)));
        assert!(copy.tokens.contains(TokenId([4; 16]), UnixTime(1)));
    }
}
