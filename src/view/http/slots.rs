//! The connections that are open, of which there is a greatest number.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Greatest number of connections.
const MOST: usize = 128;

/// The number of the next connection.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What a connection waits for, in the order in which connections are given up for new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The request.
    Request,
    /// The response to be read.
    Answer,
    /// Changes, for as long as a page is open.
    Events,
}

/// The open connections.
#[derive(Debug, Clone, Default)]
pub struct Slots(Arc<Mutex<Vec<Open>>>);

#[derive(Debug)]
struct Open {
    number: u64,
    stage: Stage,
    since: Instant,
    stream: TcpStream,
}

/// The place of one connection; dropping it makes room.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    number: u64,
}

impl Slots {
    /// A place for a connection; `None` if the system has no room for it. If all places are taken, the connection that has
    /// waited longest at the earliest stage is closed.
    pub fn take(&self, stream: &TcpStream) -> Option<Slot> {
        let stream = stream.try_clone().ok()?;
        let mut open = self.lock();
        if open.len() >= MOST {
            let oldest = open.iter().enumerate().min_by_key(|(_, open)| (open.stage, open.since)).map(|(at, _)| at)?;
            // Its thread finds out when it reads or writes.
            let _ = open.swap_remove(oldest).stream.shutdown(Shutdown::Both);
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        open.push(Open { number, stage: Stage::Request, since: Instant::now(), stream });
        Some(Slot { slots: self.clone(), number })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Enters a stage.
    pub fn enter(&self, stage: Stage) {
        if let Some(open) = self.slots.lock().iter_mut().find(|open| open.number == self.number) {
            (open.stage, open.since) = (stage, Instant::now());
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().retain(|open| open.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_connection_that_waits_longest_for_its_request_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Slots::default();
        let connect = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let slot = slots.take(&server).unwrap();
            (client, server, slot)
        };
        let mut open: Vec<_> = (0..MOST).map(|_| connect()).collect();
        open[0].2.enter(Stage::Events);
        open[1].2.enter(Stage::Answer);
        open.push(connect());
        assert_eq!(slots.lock().len(), MOST);
        assert_eq!(open[2].0.read(&mut [0]).unwrap(), 0, "the third was closed");
        open[0].0.set_nonblocking(true).unwrap();
        assert!(open[0].0.read(&mut [0]).is_err(), "the first is open");
        open.clear();
        assert!(slots.lock().is_empty());
    }
}
