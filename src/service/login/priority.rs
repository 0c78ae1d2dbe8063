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
