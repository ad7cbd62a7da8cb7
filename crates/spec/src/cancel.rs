//! Cancellation: one handle that a caller keeps and a long operation watches.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Poll, Waker},
};

/// A request to stop, shared by all clones of the handle.
///
/// An operation that runs several threads gives them a [`child`](Self::child): it ends with its parent, and the operation can
/// end it alone when one of the threads fails.
///
/// ```
/// use strata_spec::Cancel;
///
/// let user = Cancel::new();
/// let workers = user.child();
/// workers.cancel();
/// assert!(workers.is_cancelled() && !user.is_cancelled());
/// assert!(!user.child().is_cancelled());
/// user.cancel();
/// assert!(user.child().is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Node>);

#[derive(Debug, Default)]
struct Node {
    cancelled: AtomicBool,
    parent: Option<Cancel>,
    waiting: Mutex<Waiting>,
}

/// Tasks that wait for this handle or for one of its children.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Cancel {
    /// Returns a handle that nothing has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a handle that is cancelled with this one, and whose own cancellation leaves this one alone.
    pub fn child(&self) -> Self {
        Self(Arc::new(Node { parent: Some(self.clone()), ..Node::default() }))
    }

    /// Requests the stop. Returns at once; the operation ends at its next check.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        for waker in std::mem::take(&mut self.waiting().wakers).into_values() {
            waker.wake();
        }
    }

    /// Whether this handle or one of its parents was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.line().any(|handle| handle.0.cancelled.load(Ordering::SeqCst))
    }

    /// Completes when the handle is cancelled.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled { handle: self.clone(), registered: Vec::new() }
    }

    /// The handle, its parent, and so on.
    fn line(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |handle| handle.0.parent.as_ref())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The future of [`Cancel::cancelled`].
#[derive(Debug)]
pub struct Cancelled {
    handle: Cancel,
    /// The key of this future's waker in the handle and in each of its parents.
    registered: Vec<u64>,
}

impl Cancelled {
    fn register(&mut self, waker: &Waker) {
        let known = std::mem::take(&mut self.registered);
        let mut known = known.into_iter();
        for handle in self.handle.line() {
            let mut waiting = handle.waiting();
            let key = known.next().unwrap_or_else(|| {
                waiting.next += 1;
                waiting.next
            });
            waiting.wakers.insert(key, waker.clone());
            self.registered.push(key);
        }
    }
}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<()> {
        self.register(context.waker());
        // Checked after registering: a cancellation in between would be lost otherwise.
        if self.handle.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        for (handle, key) in self.handle.line().zip(&self.registered) {
            handle.waiting().wakers.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, task::Wake};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_waiting_task_is_woken_by_the_handle_and_by_its_parent() {
        for by_parent in [false, true] {
            let parent = Cancel::new();
            let child = parent.child();
            let count = Arc::new(Count::default());
            let waker = Waker::from(count.clone());
            let mut context = task::Context::from_waker(&waker);
            let mut cancelled = child.cancelled();
            for _ in 0..3 {
                assert_eq!(Pin::new(&mut cancelled).poll(&mut context), Poll::Pending);
            }
            assert_eq!((child.waiting().wakers.len(), parent.waiting().wakers.len()), (1, 1), "one waker a future");
            if by_parent { &parent } else { &child }.cancel();
            assert_eq!(count.0.load(Ordering::SeqCst), 1);
            assert_eq!(Pin::new(&mut cancelled).poll(&mut context), Poll::Ready(()));
            drop(cancelled);
            assert!(child.waiting().wakers.is_empty() && parent.waiting().wakers.is_empty());
        }
    }
}
