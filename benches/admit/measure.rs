//! Timing: nanoseconds of a step, the rate of threads together.

use std::time::{Duration, Instant};

/// Nanoseconds of one step, the best of seven rounds.
pub(super) fn nanos(one: impl Fn(u64)) -> f64 {
    let rounds = (0..7).map(|round| {
        let began = Instant::now();
        (round * STEPS..(round + 1) * STEPS).for_each(&one);
        began.elapsed().as_nanos() as f64 / STEPS as f64
    });
    rounds.fold(f64::MAX, f64::min)
}

/// Spread over `count`, in no order that a cache could guess.
pub(super) fn spread(count: usize) -> impl Fn(u64) -> usize {
    move |step| (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % count
}

/// What so many threads do at once, added up, the best of five rounds.
pub(super) fn together(threads: usize, work: impl Fn() -> f64 + Copy + Send) -> f64 {
    let round = || -> f64 {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    };
    (0..5).map(|_| round()).fold(0.0, f64::max)
}

/// What this thread has run so far, by the scheduler's account.
pub(super) fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

pub(super) fn ns(value: f64) -> String {
    format!("{value:.0} ns")
}

/// Decisions in one round.
pub(super) const STEPS: u64 = 1_000_000;
