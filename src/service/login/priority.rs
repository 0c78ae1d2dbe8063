//! How the system's scheduler sees threads that hash in idle time: a hash takes tens of milliseconds, a request microseconds
//! (docs/decisions/0011-logins-give-way.md).

/// From now on this thread leaves its core to all others that want it, at once.
pub(super) fn hash_in_idle_time() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::unix::{
            NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id, thread_schedule_policy,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let priority = thread_priority::ThreadPriority::Min;
        // It asks for a priority too, which is not ours to have where the whole gateway has a lower one.
        let _ = set_thread_priority_and_policy(thread_native_id(), priority, idle);
        if !thread_schedule_policy().is_ok_and(|policy| policy == idle) {
            static SAID: std::sync::Once = std::sync::Once::new();
            SAID.call_once(|| log::warn!(
                "passwords cannot be hashed at idle priority: the system forbids it; a login storm slows all requests"
            ));
        }
    }
}

/// From now on this thread has two fifths of a core that another thread wants as well, and what is left of one that none wants. At equal
/// priority it would have half, and while it hashes every request would take twice as long. Much less, and where many threads want the core
/// logins would not have their share of it.
pub(super) fn hash_at_lower_priority() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::unix::{
            NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let Some(priority) = niceness().and_then(|nice| priority_of(nice + LOWER)) else {
            return;
        };
        let usual = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
        // It is always allowed to ask for less. Without it requests are slower, and logins are not.
        let _ = set_thread_priority_and_policy(thread_native_id(), priority, usual);
    }
}

/// Of this thread: the 19th field of proc_pid_stat(5), behind a name that may hold anything.
#[cfg(target_os = "linux")]
fn niceness() -> Option<i32> {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
    stat.rsplit(')').next()?.split_ascii_whitespace().nth(16)?.parse().ok()
}

/// A niceness on the scale of the library: 99 for -20, and 0 for 19, which nothing here asks for.
#[cfg(target_os = "linux")]
fn priority_of(nice: i32) -> Option<thread_priority::ThreadPriority> {
    let share = 1.0 - (f64::from(nice.min(18)) + 20.5) / 39.0;
    let value = thread_priority::ThreadPriorityValue::try_from((share * 99.0).round() as u8).ok()?;
    Some(thread_priority::ThreadPriority::Crossplatform(value))
}

/// Steps of niceness: a weight of 655 beside 1,024 (sched(7)).
#[cfg(target_os = "linux")]
const LOWER: i32 = 2;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_lower_priority_is_two_steps_below_and_for_one_thread() {
        let before = niceness().unwrap();
        let lowered = thread::spawn(|| {
            hash_at_lower_priority();
            niceness().unwrap()
        });
        assert_eq!(lowered.join().unwrap(), (before + LOWER).min(18));
        assert_eq!(niceness().unwrap(), before);
    }
}
