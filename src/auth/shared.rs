//! What threads share inside this layer: a lock, a pointer that is replaced whole, a number.
//!
//! With the feature `model` they are loom's, which runs a test under every order of their steps: `model.rs`.

#[cfg(not(feature = "model"))]
pub(super) use {arc_swap::ArcSwap, parking_lot::Mutex, std::sync::atomic::AtomicU64};

#[cfg(feature = "model")]
pub(super) use self::loomed::{ArcSwap, Mutex};
#[cfg(feature = "model")]
pub(super) use loom::sync::atomic::AtomicU64;

/// The same names over loom's primitives.
#[cfg(feature = "model")]
mod loomed {
    #![allow(clippy::expect_used, reason = "a model stops at the first surprise")]

    use std::ops::Deref;
    use std::sync::Arc;

    /// A lock that is never poisoned: a model ends with its first panic.
    #[derive(Debug)]
    pub(in crate::auth) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(in crate::auth) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(in crate::auth) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a model has ended")
        }
    }

    /// A pointer whose readers wait for nobody. Taking and replacing it are one step each.
    #[derive(Debug)]
    pub(in crate::auth) struct ArcSwap<T>(Mutex<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub(in crate::auth) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub(in crate::auth) fn load(&self) -> Loaded<T> {
            Loaded(self.load_full())
        }

        pub(in crate::auth) fn load_full(&self) -> Arc<T> {
            Arc::clone(&self.0.lock())
        }

        pub(in crate::auth) fn store(&self, value: Arc<T>) {
            *self.0.lock() = value;
        }
    }

    impl<T: Default> Default for ArcSwap<T> {
        fn default() -> Self {
            Self::from_pointee(T::default())
        }
    }

    /// What a reader holds.
    pub(in crate::auth) struct Loaded<T>(Arc<T>);

    impl<T> Deref for Loaded<T> {
        type Target = Arc<T>;

        fn deref(&self) -> &Arc<T> {
            &self.0
        }
    }
}
