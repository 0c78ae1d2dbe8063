//! Why a request that is observed would be refused.

use crate::auth::denial::Denial;
use crate::auth::endpoint::Refusal;

/// What the gateway would say of a request that goes on because it is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WouldRefuse {
    /// The gate denies it.
    Denied(Denial),
    /// The token endpoint refuses its form.
    Endpoint(Refusal),
    /// It is in the reserved path: 404.
    NotFound,
}

impl WouldRefuse {
    /// How many reasons there are.
    pub const COUNT: usize = Denial::ALL.len() + Refusal::ALL.len() + 1;

    /// Every reason, in the order of [`Self::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        let endpoint = Refusal::ALL.map(Self::Endpoint);
        Denial::ALL.map(Self::Denied).into_iter().chain(endpoint).chain([Self::NotFound])
    }

    /// Its number.
    pub const fn index(self) -> usize {
        match self {
            Self::Denied(denial) => denial as usize,
            Self::Endpoint(refusal) => Denial::ALL.len() + refusal as usize,
            Self::NotFound => Self::COUNT - 1,
        }
    }

    /// The reason as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied(denial) => denial.as_str(),
            Self::Endpoint(refusal) => refusal.as_str(),
            Self::NotFound => "not_found",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_the_number_of_its_place_and_a_name_of_its_own() {
        let all: Vec<WouldRefuse> = WouldRefuse::all().collect();
        assert_eq!(all.len(), WouldRefuse::COUNT);
        let names: std::collections::BTreeSet<&str> = all.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), all.len());
        for (at, reason) in all.into_iter().enumerate() {
            assert_eq!(reason.index(), at, "{reason:?}");
        }
    }
}
