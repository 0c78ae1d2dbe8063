//! How long a login with an imported hash would take on this machine: measured once for each algorithm and its parameters.

use std::time::Duration;

use crate::auth::password::{Cost, HashMemory, Phc};
use crate::auth::secret::Secret;
use crate::clock::core_time;

/// What was measured so far.
pub(super) struct Speed {
    memory: HashMemory,
    /// As long as one may be: some algorithms take longer for it.
    password: Secret,
    /// The longest that one login may take of a core.
    longest: Duration,
    bearable: Vec<Cost>,
    slow: Vec<(Cost, Duration)>,
}

/// A hash with which a login takes too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooSlow {
    /// Its algorithm and parameters.
    pub cost: Cost,
    /// How long a login would take of a core of this machine.
    pub took: Duration,
    /// Would it take longer than `took`? That was then measured with a cheaper hash.
    pub is_more: bool,
    /// How long one may take.
    pub longest: Duration,
}

impl Speed {
    pub(super) fn new(longest: Duration) -> Self {
        let password = Secret::new(vec![b'x'; Phc::MAX_PASSWORD]);
        Self { memory: HashMemory::default(), password, longest, bearable: Vec::new(), slow: Vec::new() }
    }

    /// Refuses a hash that would take too long.
    pub(super) fn check(&mut self, phc: &Phc) -> Result<(), TooSlow> {
        let Some(cost) = phc.cost() else { return Ok(()) };
        // Rounds often vary from user to user: what is cheaper than one that was measured is not measured again.
        if self.bearable.iter().any(|bearable| cost.is_at_most(bearable)) {
            return Ok(());
        }
        if let Some((slow, took)) = self.slow.iter().find(|(slow, _)| slow.is_at_most(&cost)) {
            return Err(TooSlow { is_more: cost != *slow, cost, took: *took, longest: self.longest });
        }
        let took = self.measure(phc);
        if took > self.longest {
            self.slow.push((cost.clone(), took));
            return Err(TooSlow { cost, took, is_more: false, longest: self.longest });
        }
        self.bearable.retain(|bearable| !bearable.is_at_most(&cost));
        self.bearable.push(cost);
        Ok(())
    }

    /// The best of a few times, or the first one that leaves no doubt. Of this thread's own time: others may want the core too. Where
    /// the system does not tell it, nothing seems to take long, and only the fixed limits hold.
    fn measure(&mut self, phc: &Phc) -> Duration {
        let mut best = Duration::MAX;
        for _ in 0..TIMES {
            let began = core_time();
            phc.verify(&self.password, &mut self.memory);
            best = best.min(core_time().saturating_sub(began));
            if best <= self.longest || best > 2 * self.longest {
                break;
            }
        }
        best
    }
}

const TIMES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_that_takes_too_long_is_refused_by_name_and_measured_once() {
        let mut speed = Speed::new(Duration::from_millis(250));
        let bcrypt = |cost: u32| {
            Phc::parse(&format!("$2b${cost:02}$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i"))
                .unwrap()
        };
        assert_eq!(speed.check(&bcrypt(5)), Ok(()));
        // Two seconds on a fast machine.
        let refused = speed.check(&bcrypt(15)).unwrap_err();
        assert_eq!(refused.cost.to_string(), "bcrypt with cost 15");
        assert!(refused.took > refused.longest && !refused.is_more, "{refused:?}");
        let began = core_time();
        assert_eq!(speed.check(&bcrypt(15)), Err(refused));
        assert_eq!(speed.check(&bcrypt(4)), Ok(()));
        assert!(speed.slow.len() == 1 && speed.bearable.len() == 1, "cheaper ones are not measured");
        assert!(core_time() >= began);
        // Who wants them can have them.
        assert_eq!(Speed::new(Duration::from_secs(3_600)).check(&bcrypt(13)), Ok(()));
    }
}
