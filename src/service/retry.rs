//! Commands that must not fail because others use the store: they wait for it and are executed again.

use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::store::command::Actor;
use crate::store::{Executable, Store, StoreError};

/// How a use case waits for a store that others hold.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// How long it goes on, counted from the first attempt. An attempt that has begun is awaited to its end.
    pub timeout: Duration,
    /// Called with `timeout` when an attempt takes longer than half a second, and after each attempt that failed because of others:
    /// more than once where there are several.
    pub on_wait: fn(Duration),
}

impl Retry {
    /// Executes a command, again and again while the store is busy.
    ///
    /// # Errors
    ///
    /// That of the last attempt; one that is transient, after the timeout.
    pub async fn execute<C: Executable + Clone>(
        &self,
        store: &Store,
        command: C,
        actor: &Actor,
    ) -> Result<C::Outcome, StoreError> {
        let deadline = self.deadline();
        loop {
            let attempt = self.watch(store.execute(command.clone(), actor.clone()));
            match attempt.await {
                Err(error) if error.is_transient() && self.is_before(deadline) => sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
    }

    /// The same for an attempt that blocks, and whose transient errors `is_transient` recognises. Blocks.
    ///
    /// # Errors
    ///
    /// That of the last attempt.
    pub fn call<T, E>(
        &self,
        mut attempt: impl FnMut() -> Result<T, E>,
        is_transient: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let deadline = self.deadline();
        loop {
            match attempt() {
                Err(error) if is_transient(&error) && self.is_before(deadline) => thread::sleep(PAUSE),
                outcome => return outcome,
            }
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Runs an attempt to its end, and tells of the wait while it still runs.
    async fn watch<T>(&self, attempt: impl Future<Output = T>) -> T {
        let mut attempt = pin!(attempt);
        if let Ok(done) = timeout(TELL_AFTER, &mut attempt).await {
            return done;
        }
        self.tell();
        attempt.await
    }

    /// Is there time for another attempt?
    fn is_before(&self, deadline: Instant) -> bool {
        self.tell();
        Instant::now() < deadline
    }

    fn tell(&self) {
        (self.on_wait)(self.timeout);
    }
}

/// Attempts that take longer are told of while they run.
const TELL_AFTER: Duration = Duration::from_millis(500);

/// Between two attempts; each waits for the store's lock itself.
const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry = Retry { timeout: Duration::from_secs(30), on_wait: |_| {} };

    #[test]
    fn transient_errors_are_tried_again_until_the_timeout_and_others_are_not() {
        let mut outcomes = [Err("busy"), Err("busy"), Ok(3), Ok(4)].into_iter();
        let is_busy = |error: &&str| *error == "busy";
        assert_eq!(RETRY.call(|| outcomes.next().unwrap(), is_busy), Ok(3));
        let mut outcomes = [Err("damaged"), Ok(2)].into_iter();
        assert_eq!(RETRY.call(|| outcomes.next().unwrap(), is_busy), Err("damaged"));
        let mut outcomes = [Err("busy"), Ok(2)].into_iter();
        let at_once = Retry { timeout: Duration::ZERO, ..RETRY };
        assert_eq!(at_once.call(|| outcomes.next().unwrap(), is_busy), Err("busy"));
    }
}
