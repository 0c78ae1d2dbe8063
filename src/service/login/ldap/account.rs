//! Whether an account may be used, as directories say it: in attributes of the entry, and in the answer to a bind.

use super::answer::Outcome;
use super::entry::Entry;
use super::failure::Failure;
use crate::auth::time::UnixTime;
use crate::service::login::source::Refused;

/// The attributes that are asked for. A directory that has none of them leaves them out.
pub(super) const ATTRIBUTES: [&str; 6] = [
    USER_ACCOUNT_CONTROL,
    COMPUTED_CONTROL,
    ACCOUNT_EXPIRES,
    LOCKOUT_TIME,
    NS_ACCOUNT_LOCK,
    PWD_ACCOUNT_LOCKED_TIME,
];

/// What an entry says of its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing against it.
    Open,
    /// Too many wrong passwords came, some time ago. Whether that still holds, the directory knows when a password comes.
    LockedOut,
    /// Nobody may log in, for this reason.
    Closed(&'static str),
}

impl State {
    /// Reads the attributes of Active Directory, FreeIPA (and 389 Directory Server), and OpenLDAP's password policy.
    pub(super) fn of(entry: &Entry, now: UnixTime) -> Self {
        let has = |attribute: &str| !entry.values(attribute).is_empty();
        if has(USER_ACCOUNT_CONTROL) {
            match number(entry, USER_ACCOUNT_CONTROL) {
                None => return Self::Closed("its userAccountControl is not a number"),
                Some(flags) if flags & ACCOUNT_DISABLE != 0 => {
                    return Self::Closed("it is disabled (userAccountControl)");
                }
                Some(_) => {}
            }
        }
        if has(ACCOUNT_EXPIRES) {
            match number(entry, ACCOUNT_EXPIRES).map(expiry) {
                None => return Self::Closed("its accountExpires is not a number"),
                Some(Some(end)) if end <= now => return Self::Closed("it has expired (accountExpires)"),
                Some(_) => {}
            }
        }
        if has(NS_ACCOUNT_LOCK)
            && !entry.first(NS_ACCOUNT_LOCK).is_some_and(|text| text.eq_ignore_ascii_case("false"))
        {
            return Self::Closed("it is disabled (nsAccountLock)");
        }
        if entry.first(PWD_ACCOUNT_LOCKED_TIME).is_some_and(|time| time.starts_with(FOREVER)) {
            return Self::Closed("it is locked for good (pwdAccountLockedTime)");
        }
        let computed = number(entry, COMPUTED_CONTROL).is_some_and(|flags| flags & LOCKOUT != 0);
        let locked_at = number(entry, LOCKOUT_TIME).is_some_and(|time| time != 0);
        if computed || locked_at || has(PWD_ACCOUNT_LOCKED_TIME) { Self::LockedOut } else { Self::Open }
    }
}

/// What a directory says to a user's password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is right.
    Accepted,
    /// It is not, or the account may not be used; and why, for the log.
    Refused(Refused, &'static str),
}

impl Verdict {
    /// Reads the answer to a bind of a user in this state.
    pub(super) fn of(outcome: &Outcome, state: State) -> Result<Self, Failure> {
        let account = |why| Ok(Self::Refused(Refused::Account, why));
        match outcome.code {
            SUCCESS => Ok(Self::Accepted),
            INVALID_CREDENTIALS => Ok(match sub_code(&outcome.text) {
                Some(code) => of_sub_code(code),
                None if state == State::LockedOut => {
                    Self::Refused(Refused::Account, "wrong password, or locked out")
                }
                None => Self::Refused(Refused::Password, "wrong password"),
            }),
            NO_SUCH_OBJECT => account("it is no longer there"),
            CONSTRAINT_VIOLATION => account("too many wrong passwords"),
            INAPPROPRIATE_AUTHENTICATION => account("it has no password"),
            UNWILLING_TO_PERFORM => account("the directory is unwilling: it may be disabled"),
            _ => Err(Failure::question(format!("cannot check a password: {}", outcome.describe()))),
        }
    }
}

/// The hexadecimal code behind `data` in what Active Directory says to a bind: "… AcceptSecurityContext error, data 52e, v3839".
fn sub_code(text: &str) -> Option<u32> {
    let (before, behind) = text.split_once(", data ")?;
    let digits = behind.split(|symbol: char| !symbol.is_ascii_hexdigit()).next()?;
    before.contains("AcceptSecurityContext").then(|| u32::from_str_radix(digits, 16).ok())?
}

/// System error codes of Windows.
const fn of_sub_code(code: u32) -> Verdict {
    let why = match code {
        0x52e => return Verdict::Refused(Refused::Password, "wrong password (52e)"),
        0x525 => "no such account (525)",
        0x52f => "the account is restricted (52f)",
        0x530 => "not at this time (530)",
        0x531 => "not from this machine (531)",
        0x532 => "its password has expired (532)",
        0x533 => "it is disabled (533)",
        0x568 => "it is in too many groups (568)",
        0x701 => "it has expired (701)",
        0x773 => "its password must be changed first (773)",
        0x775 => "it is locked out (775)",
        _ => return Verdict::Refused(Refused::Password, "wrong password, with a code that is not known"),
    };
    Verdict::Refused(Refused::Account, why)
}

fn number(entry: &Entry, attribute: &str) -> Option<i64> {
    entry.first(attribute)?.parse().ok()
}

/// When an account ends, from a hundred nanoseconds since 1601; never, if it is 0 or the greatest number.
fn expiry(ticks: i64) -> Option<UnixTime> {
    if ticks == 0 || ticks == i64::MAX {
        return None;
    }
    let seconds = ticks.div_euclid(10_000_000).saturating_sub(BETWEEN_1601_AND_1970);
    Some(UnixTime(u64::try_from(seconds).unwrap_or(0)))
}

/// In seconds.
const BETWEEN_1601_AND_1970: i64 = 11_644_473_600;

const USER_ACCOUNT_CONTROL: &str = "userAccountControl";
const COMPUTED_CONTROL: &str = "msDS-User-Account-Control-Computed";
const ACCOUNT_EXPIRES: &str = "accountExpires";
const LOCKOUT_TIME: &str = "lockoutTime";
const NS_ACCOUNT_LOCK: &str = "nsAccountLock";
const PWD_ACCOUNT_LOCKED_TIME: &str = "pwdAccountLockedTime";

/// UF_ACCOUNTDISABLE and UF_LOCKOUT.
const ACCOUNT_DISABLE: i64 = 0x2;
const LOCKOUT: i64 = 0x10;
/// What `pwdAccountLockedTime` begins with where an administrator has to unlock the account.
const FOREVER: &str = "000001010000";

const SUCCESS: u32 = 0;
const CONSTRAINT_VIOLATION: u32 = 19;
const NO_SUCH_OBJECT: u32 = 32;
const INAPPROPRIATE_AUTHENTICATION: u32 = 48;
const INVALID_CREDENTIALS: u32 = 49;
const UNWILLING_TO_PERFORM: u32 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    fn state(attributes: &[(&str, &str)]) -> State {
        let mut entry = Entry::new("cn=a");
        attributes.iter().for_each(|(name, value)| entry.add(name, value.as_bytes()));
        State::of(&entry, UnixTime(1_700_000_000))
    }

    #[test]
    fn an_account_is_open_locked_out_or_closed() {
        for (attributes, is_open, is_closed) in [
            (&[][..], true, false),
            (&[("userAccountControl", "512")], true, false),
            (&[("useraccountcontrol", "514")], false, true),
            (&[("userAccountControl", "66050")], false, true),
            (&[("userAccountControl", "x")], false, true),
            (&[("accountExpires", "0")], true, false),
            (&[("accountExpires", "9223372036854775807")], true, false),
            // The 14th of November 2023, 22:13:20, and a second later.
            (&[("accountExpires", "133444736000000000")], false, true),
            (&[("accountExpires", "133444736010000000")], true, false),
            (&[("accountExpires", "1")], false, true),
            (&[("accountExpires", "soon")], false, true),
            (&[("lockoutTime", "0")], true, false),
            (&[("lockoutTime", "133444736000000000")], false, false),
            (&[("msDS-User-Account-Control-Computed", "16")], false, false),
            (&[("msDS-User-Account-Control-Computed", "8388608")], true, false),
            (&[("nsAccountLock", "TRUE")], false, true),
            (&[("nsAccountLock", "true")], false, true),
            (&[("nsAccountLock", "FALSE")], true, false),
            (&[("nsAccountLock", "?")], false, true),
            (&[("pwdAccountLockedTime", "000001010000Z")], false, true),
            (&[("pwdAccountLockedTime", "20261126190000Z")], false, false),
        ] {
            let state = state(attributes);
            assert_eq!(state == State::Open, is_open, "{attributes:?} {state:?}");
            assert_eq!(matches!(state, State::Closed(_)), is_closed, "{attributes:?} {state:?}");
        }
    }

    #[test]
    fn the_answer_to_a_bind_tells_a_password_from_an_account() {
        let said = |data: &str| {
            format!(
                "80090308: LdapErr: DSID-0C09042A, comment: AcceptSecurityContext error, data {data}, v3839\0"
            )
        };
        for (code, text, expected) in [
            (0, String::new(), Ok(None)),
            (49, String::new(), Ok(Some(Refused::Password))),
            (49, said("52e"), Ok(Some(Refused::Password))),
            (49, said("525"), Ok(Some(Refused::Account))),
            (49, said("530"), Ok(Some(Refused::Account))),
            (49, said("531"), Ok(Some(Refused::Account))),
            (49, said("532"), Ok(Some(Refused::Account))),
            (49, said("533"), Ok(Some(Refused::Account))),
            (49, said("701"), Ok(Some(Refused::Account))),
            (49, said("773"), Ok(Some(Refused::Account))),
            (49, said("775"), Ok(Some(Refused::Account))),
            (49, said("1"), Ok(Some(Refused::Password))),
            (49, said(""), Ok(Some(Refused::Password))),
            (49, "something else, data 533".into(), Ok(Some(Refused::Password))),
            (19, String::new(), Ok(Some(Refused::Account))),
            (32, String::new(), Ok(Some(Refused::Account))),
            (48, String::new(), Ok(Some(Refused::Account))),
            (53, String::new(), Ok(Some(Refused::Account))),
            (1, String::new(), Err(())),
            (8, String::new(), Err(())),
            (10, String::new(), Err(())),
            (14, String::new(), Err(())),
            (51, String::new(), Err(())),
            (52, String::new(), Err(())),
            (80, String::new(), Err(())),
        ] {
            let verdict = Verdict::of(&Outcome { code, text: text.clone() }, State::Open);
            let found = verdict.map_err(drop).map(|verdict| match verdict {
                Verdict::Accepted => None,
                Verdict::Refused(refused, _) => Some(refused),
            });
            assert_eq!(found, expected, "{code} {text}");
        }
        let outcome = Outcome { code: 49, text: String::new() };
        let verdict = Verdict::of(&outcome, State::LockedOut).unwrap();
        assert!(matches!(verdict, Verdict::Refused(Refused::Account, _)), "{verdict:?}");
    }
}
