//! Seeds of the tests that choose at random: some that are the same in every run, and one that is not.
//!
//! Each seed is printed before it is used, with the variable that repeats it; a test shows what it printed when it fails.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestRunner};

/// A number that anyone who runs the tests may set.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// The seeds of a run, each with how much is done with it: `some` with each fixed one and `all` with a random one, or
/// all with the one that `variable` names.
pub fn seeds(variable: &str, fixed: &[u64], some: u64, all: u64) -> Vec<(u64, u64)> {
    match number(variable) {
        Some(seed) => vec![(seed, all)],
        None => fixed.iter().map(|seed| (*seed, some)).chain([(fastrand::u64(..), all)]).collect(),
    }
}

/// Holds a property against `cases` random values, and a few that are the same in every run. `PROPTEST_CASES` overrides
/// their number.
pub fn property<S: Strategy>(cases: u64, values: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    let cases = number("PROPTEST_CASES").unwrap_or(cases);
    for (seed, cases) in seeds(VARIABLE, &[1], cases.div_ceil(8), cases) {
        eprintln!("{VARIABLE}={seed}");
        let cases = cases.try_into().expect("a number of cases");
        let rng_seed = RngSeed::Fixed(seed);
        let config = Config { cases, rng_seed, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new(config).run(values, &property);
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// The variable that `proptest` itself reads.
const VARIABLE: &str = "PROPTEST_RNG_SEED";
