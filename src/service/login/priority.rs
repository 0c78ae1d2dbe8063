//! How the system's scheduler sees threads that hash: a hash takes tens of milliseconds, a request microseconds
//! (docs/decisions/0011-logins-give-way.md).

/// From now on this thread leaves its core to all others that want it, at once.
pub(super) fn hash_in_idle_time() {
    #[cfg(target_os = "linux")]
    if !set(thread_priority::unix::NormalThreadSchedulePolicy::Idle) {
        static SAID: std::sync::Once = std::sync::Once::new();
        SAID.call_once(|| {
            log::warn!(
                "passwords are not hashed in idle time: the system forbids it; a storm of logins slows all requests"
            );
        });
    }
}

/// From now on this thread has its share of a core, and does not interrupt others to get it.
pub(super) fn hash_in_batches() {
    #[cfg(target_os = "linux")]
    // Where it is forbidden, the thread is as any other.
    let _ = set(thread_priority::unix::NormalThreadSchedulePolicy::Batch);
}

#[cfg(target_os = "linux")]
fn set(policy: thread_priority::unix::NormalThreadSchedulePolicy) -> bool {
    use thread_priority::unix::{
        ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
    };
    let policy = ThreadSchedulePolicy::Normal(policy);
    // It asks for a priority too, which is not ours to have where the whole gateway has a lower one.
    let _ = set_thread_priority_and_policy(thread_native_id(), thread_priority::ThreadPriority::Min, policy);
    thread_schedule_policy().is_ok_and(|now| now == policy)
}
