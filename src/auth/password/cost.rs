//! What it costs to verify a hash, for anyone who measures it.

use std::fmt;

/// An algorithm with its parameters. Hashes of equal cost take equally long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    pub(super) algorithm: &'static str,
    /// The parameters that time grows with, in an order of the algorithm's own.
    pub(super) factors: [u32; 3],
    /// The same in words.
    pub(super) parameters: String,
}

impl Cost {
    /// Of an algorithm that has no parameters.
    pub(super) const fn fixed(algorithm: &'static str) -> Self {
        Self { algorithm, factors: [0; 3], parameters: String::new() }
    }

    /// Does this take no longer than the other, whatever the machine? Different algorithms cannot be compared, nor can one that has less
    /// of one parameter and more of another.
    pub fn is_at_most(&self, other: &Self) -> bool {
        let mut pairs = self.factors.iter().zip(&other.factors);
        self.algorithm == other.algorithm && pairs.all(|(own, other)| own <= other)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm)?;
        if self.parameters.is_empty() { Ok(()) } else { write!(f, " with {}", self.parameters) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_compared_parameter_by_parameter() {
        let cost = |algorithm, factors| Cost { algorithm, factors, parameters: String::new() };
        for (own, other, expected) in [
            (cost("bcrypt", [10, 0, 0]), cost("bcrypt", [10, 0, 0]), true),
            (cost("bcrypt", [9, 0, 0]), cost("bcrypt", [10, 0, 0]), true),
            (cost("bcrypt", [11, 0, 0]), cost("bcrypt", [10, 0, 0]), false),
            (cost("scrypt", [9, 0, 0]), cost("bcrypt", [10, 0, 0]), false),
            (cost("argon2id", [64, 3, 1]), cost("argon2id", [64, 3, 2]), true),
            (cost("argon2id", [64, 3, 1]), cost("argon2id", [128, 2, 1]), false),
        ] {
            assert_eq!(own.is_at_most(&other), expected, "{own:?} {other:?}");
        }
    }
}
