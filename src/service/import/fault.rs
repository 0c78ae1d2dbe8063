//! What keeps a user from being imported, by line.

use super::speed::TooSlow;
use crate::store::command::ImportConflict;

/// What is wrong with one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line's number, from 1.
    pub line: usize,
    /// What it is.
    pub kind: FaultKind,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It is not a user, in this sentence. Nothing that was given as a password is in it.
    Invalid(String),
    /// A login with the password hash takes too long.
    TooSlow(TooSlow),
    /// The same user is on an earlier line.
    Repeated {
        /// Its name.
        name: String,
        /// The number of that line.
        first: usize,
    },
    /// A person would confuse the name with that of an earlier line.
    Confusable {
        /// The name.
        name: String,
        /// The other user's.
        other: String,
        /// The number of its line.
        first: usize,
    },
    /// The store has a user that keeps this one out.
    Conflict {
        /// The name of the one to be imported.
        name: String,
        /// Why it is kept out.
        conflict: ImportConflict,
    },
}

/// The faults of an import: the first hundred, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    kept: Vec<Fault>,
    more: usize,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        if self.kept.len() < MAX_KEPT { self.kept.push(fault) } else { self.more += 1 }
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.kept.len() + self.more
    }

    /// How many are not kept.
    pub const fn more(&self) -> usize {
        self.more
    }

    /// Those that are kept, in the order of the lines.
    pub fn into_kept(mut self) -> Vec<Fault> {
        self.kept.sort_by_key(|fault| fault.line);
        self.kept
    }
}

/// Faults that are kept.
const MAX_KEPT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_hundred_faults_are_kept_in_the_order_of_lines_and_others_counted() {
        let mut faults = Faults::default();
        let fault = |line| Fault { line, kind: FaultKind::Invalid("x".into()) };
        (0..103).rev().for_each(|line| faults.add(fault(line)));
        assert_eq!((faults.count(), faults.more()), (103, 3));
        let lines: Vec<usize> = faults.into_kept().iter().map(|fault| fault.line).collect();
        assert_eq!(lines, (3..103).collect::<Vec<usize>>());
    }
}
