//! A team of threads for work that takes ten microseconds and more.
//!
//! A thread that the system has to wake begins some 50 µs later, which is longer than most passes of a training step take. So the
//! helpers of a team stay awake for a short time after their last work, and begin within a microsecond where the next comes until then.
//!
//! Parts of the work are taken, by the caller too, until none is left. A helper that does not come in time, since it sleeps or another
//! program has its core, holds nothing up: the others take what it would have taken. Which thread computes a part changes no result.

use std::any::Any;
use std::cell::RefCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a thread waits awake: longer than what a training step does between two divided passes.
const AWAKE: Duration = Duration::from_micros(200);

/// How long a helper without work keeps its core from other threads, such as those of tensor operations.
const KEPT: Duration = Duration::from_micros(20);

/// Looks for work between two looks at the clock.
const LOOKS: usize = 64;

/// Work by the number of its part.
type Work<'a> = &'a (dyn Fn(usize) + Sync);

thread_local! {
    /// The team of this thread, in use while it computes.
    static TEAM: RefCell<Team> = RefCell::default();
}

/// Computes the parts `0..count` of some work, one after the other within other divided work. At most `threads - 1` helpers are woken;
/// all that are awake take parts.
///
/// # Panics
/// If a part does, after all parts have ended.
pub(super) fn compute(threads: usize, count: usize, work: Work<'_>) {
    let helpers = threads.min(count).saturating_sub(1);
    if helpers == 0 {
        return (0..count).for_each(work);
    }
    TEAM.with(|team| match team.try_borrow_mut() {
        Ok(mut team) => team.compute(helpers, count, work),
        Err(_) => (0..count).for_each(work),
    });
}

/// Calls `work` so that what it divides is computed by this thread alone: where others are busy with work of the same kind.
pub fn alone<R>(work: impl FnOnce() -> R) -> R {
    TEAM.with(|team| {
        let _in_use = team.try_borrow_mut();
        work()
    })
}

/// A thread and its helpers.
#[derive(Default)]
struct Team {
    shared: Arc<Shared>,
    helpers: Vec<Thread>,
    /// Whether the system has refused a thread.
    is_refused: bool,
}

/// What a thread and its helpers share.
#[derive(Default)]
struct Shared {
    /// Parts that no thread has taken. They are taken from the last to the first.
    waiting: AtomicUsize,
    /// Parts that have not ended.
    unfinished: AtomicUsize,
    /// The work, while a part of it is unfinished.
    work: AtomicPtr<Work<'static>>,
    /// The first panic of a part.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Helpers that sleep, or are about to.
    asleep: AtomicUsize,
    /// Whether the team is dissolved.
    is_closed: AtomicBool,
}

impl Team {
    fn compute(&mut self, helpers: usize, count: usize, work: Work<'_>) {
        self.grow(helpers);
        let shared = &*self.shared;
        // The pointer outlives neither `work` nor this call: `finish` waits for every part.
        shared.work.store((&raw const work).cast_mut().cast(), Relaxed);
        shared.unfinished.store(count, Relaxed);
        // Sequentially consistent with `asleep`: a helper that this does not wake looks again before it sleeps.
        shared.waiting.store(count, SeqCst);
        if shared.asleep.load(SeqCst) > 0 {
            self.helpers.iter().take(helpers).for_each(Thread::unpark);
        }
        shared.take_all();
        shared.finish();
    }

    /// Starts helpers up to `count`, as far as the system allows.
    fn grow(&mut self, count: usize) {
        while self.helpers.len() < count && !self.is_refused {
            let shared = self.shared.clone();
            match thread::Builder::new().name("kernels".into()).spawn(move || shared.help()) {
                Ok(handle) => self.helpers.push(handle.thread().clone()),
                Err(_) => self.is_refused = true,
            }
        }
    }
}

impl Drop for Team {
    /// Ends the helpers, which are not waited for: nothing is unfinished.
    fn drop(&mut self) {
        self.shared.is_closed.store(true, SeqCst);
        self.helpers.iter().for_each(Thread::unpark);
    }
}

impl Shared {
    /// Takes and computes parts until none is left.
    fn take_all(&self) {
        while let Ok(waiting) = self.waiting.fetch_update(Acquire, Relaxed, |waiting| waiting.checked_sub(1)) {
            let work = self.work.load(Relaxed);
            // SAFETY: this thread has taken a part, so that the work is unfinished, and its caller waits in `finish`: the pointer is that
            // of `Team::compute`, stored before the part was offered. It is not read after the part is counted as finished.
            let compute = || unsafe { (*work)(waiting - 1) };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(compute)) {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
            }
            self.unfinished.fetch_sub(1, Release);
        }
    }

    /// Waits until every part has ended, and passes a panic on.
    fn finish(&self) {
        while !await_awake(AWAKE, || self.unfinished.load(Acquire) == 0) {
            // Where there are more threads than cores, a helper may need this one.
            thread::yield_now();
        }
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// What a helper does until its team is dissolved.
    fn help(&self) {
        // Within a part, nothing is divided further.
        alone(|| {
            while !self.is_closed.load(SeqCst) {
                self.take_all();
                self.wait();
            }
        });
    }

    /// Waits for work: awake, then asleep.
    fn wait(&self) {
        if await_awake(KEPT, || self.waiting.load(Relaxed) > 0) {
            return;
        }
        self.asleep.fetch_add(1, SeqCst);
        while self.waiting.load(SeqCst) == 0 && !self.is_closed.load(SeqCst) {
            thread::park();
        }
        self.asleep.fetch_sub(1, SeqCst);
    }
}

/// Waits for something to become true, for [`AWAKE`] at most, and lets other threads run after `kept`; returns whether it has.
fn await_awake(kept: Duration, is_true: impl Fn() -> bool) -> bool {
    let mut begun = None;
    loop {
        for _ in 0..LOOKS {
            if is_true() {
                return true;
            }
            spin_loop();
        }
        let now = Instant::now();
        match now - *begun.get_or_insert(now) {
            waited if waited >= AWAKE => return false,
            waited if waited >= kept => thread::yield_now(),
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// How often each part was computed.
    fn counts(threads: usize, count: usize, also: impl Fn(usize) + Sync) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        compute(threads, count, &|part| {
            counts[part].fetch_add(1, Relaxed);
            also(part);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_part_is_computed_once_in_many_rounds() {
        for round in 0..5000 {
            let (threads, count) = (1 + round % 5, round % 7);
            assert_eq!(counts(threads, count, |_| ()), vec![1; count], "round {round}");
        }
    }

    #[test]
    fn helpers_compute_too_and_are_woken() {
        for pause in [0, 2] {
            // A part ends only when the other has begun.
            let begun = AtomicUsize::new(0);
            let all = Mutex::new(HashSet::new());
            counts(2, 2, |_| {
                all.lock().unwrap().insert(thread::current().id());
                begun.fetch_add(1, SeqCst);
                while begun.load(SeqCst) < 2 {
                    thread::yield_now();
                }
            });
            assert_eq!(all.into_inner().unwrap().len(), 2, "two threads");
            thread::sleep(pause * AWAKE);
        }
    }

    #[test]
    fn what_a_part_divides_is_computed_within_it() {
        let inner = counts(3, 8, |_| {
            let me = thread::current().id();
            assert_eq!(counts(3, 4, |_| assert_eq!(thread::current().id(), me)), [1; 4]);
        });
        assert_eq!(inner, [1; 8]);
        let me = thread::current().id();
        alone(|| counts(2, 3, |_| assert_eq!(thread::current().id(), me)));
    }

    #[test]
    fn a_panic_is_passed_on_after_all_parts_have_ended() {
        for _ in 0..200 {
            let ended = AtomicUsize::new(0);
            let work = |part: usize| {
                if part == 1 {
                    panic!("part {part}");
                }
                ended.fetch_add(1, SeqCst);
            };
            let panic = catch_unwind(AssertUnwindSafe(|| compute(3, 6, &work))).unwrap_err();
            assert_eq!(panic.downcast_ref::<String>().unwrap(), "part 1");
            assert_eq!(ended.load(SeqCst), 5);
        }
        assert_eq!(counts(3, 6, |_| ()), [1; 6], "the team is as good as before");
    }

    #[test]
    fn helpers_end_with_their_team() {
        let shared = thread::spawn(|| {
            counts(4, 9, |_| ());
            TEAM.with_borrow(|team| Arc::downgrade(&team.shared))
        });
        let shared = shared.join().unwrap();
        while shared.upgrade().is_some() {
            thread::yield_now();
        }
    }

    #[test]
    fn teams_of_several_threads_do_not_meet() {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| assert_eq!(counts(3, 5, |_| ()), [1; 5])));
            }
        });
    }
}
