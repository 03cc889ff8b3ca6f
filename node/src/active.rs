//! The release a node runs, swapped under its readers as one step.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use cairn_policy::Policy;
use cairn_schemas::ids::ReleaseRef;

/// A release that passed every check and whose policy is loaded.
#[derive(Debug)]
pub struct ActiveRelease {
    /// Which one.
    pub reference: ReleaseRef,
    /// Its policy.
    pub policy: Policy,
}

/// The place readers look at. Clones are handles on the same one.
#[derive(Clone, Default)]
pub struct Active {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    release: ArcSwapOption<ActiveRelease>,
    generation: Mutex<u64>,
    changed: Condvar,
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Active({:?})", self.load().map(|active| active.reference))
    }
}

impl Active {
    /// A place that shows this release until it is swapped.
    #[must_use]
    pub fn new(release: Option<Arc<ActiveRelease>>) -> Active {
        let active = Active::default();
        active.inner.release.store(release);
        active
    }

    /// What runs now; `None` until the first activation. Costs no lock: call it for each decision.
    #[must_use]
    pub fn load(&self) -> Option<Arc<ActiveRelease>> {
        self.inner.release.load_full()
    }

    /// How often it was swapped.
    #[must_use]
    pub fn generation(&self) -> u64 {
        *self.inner.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it was swapped more often than `seen`, at most `timeout`; returns how often it was.
    #[must_use]
    pub fn wait_newer(&self, seen: u64, timeout: Duration) -> u64 {
        let generation = self.inner.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let (generation, _) = self
            .inner
            .changed
            .wait_timeout_while(generation, timeout, |generation| *generation <= seen)
            .unwrap_or_else(PoisonError::into_inner);
        *generation
    }

    /// Swaps. Readers that hold the old release go on with it until they look again.
    pub(crate) fn swap(&self, release: Option<Arc<ActiveRelease>>) {
        self.inner.release.store(release);
        *self.inner.generation.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.inner.changed.notify_all();
    }

    /// Wakes who waits, without a swap: the node is closing.
    pub(crate) fn wake(&self) {
        *self.inner.generation.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.inner.changed.notify_all();
    }
}
