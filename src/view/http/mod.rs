//! A small HTTP/1.1 server for pages on this machine: GET and HEAD, one request per connection, one thread per connection.
//!
//! Requests are parsed by `httparse`. What a page that is left open for days needs is in the limits: the size of a request, the
//! time it may take to arrive, the rate at which a response must be read, and the number of connections. When all are taken, a
//! new connection replaces the one that has waited longest, so that idle or slow clients cannot lock others out.

mod request;
mod response;
mod slots;

use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

pub use request::Request;
pub use response::{Body, Response};
use slots::{Slots, Stage};

/// Time within which a request must have arrived.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Pause after an error of `accept`, such as too many open files, which an immediate retry would repeat.
const PAUSE: Duration = Duration::from_millis(20);

/// Most bytes of a refused request's body that are read before the connection is closed.
const UNREAD: u64 = 64 << 10;

/// Accepts connections for as long as the process lives, and answers each with `handler` on a thread of its own.
pub fn serve(listener: &TcpListener, handler: impl Fn(&Request) -> Response + Sync) -> ! {
    let (handler, slots) = (&handler, Slots::default());
    std::thread::scope(|scope| {
        loop {
            let Ok((stream, _)) = listener.accept() else {
                std::thread::sleep(PAUSE);
                continue;
            };
            // Without a slot or a thread the connection is closed.
            let Some(slot) = slots.take(&stream) else { continue };
            let work = move || {
                // The client may be gone at any time, which is no one's mistake.
                let _ = answer(stream, &slot, handler);
            };
            let _ = std::thread::Builder::new().name("connection".into()).spawn_scoped(scope, work);
        }
    })
}

/// Reads one request and writes its response.
fn answer(stream: TcpStream, slot: &slots::Slot, handler: &dyn Fn(&Request) -> Response) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (response, head) = match Request::read(&stream, Instant::now() + ARRIVAL)? {
        Ok(request) => {
            slot.enter(Stage::Answer);
            (handler(&request), request.head)
        }
        Err(refusal) => (refusal, false),
    };
    if matches!(response.body, Body::Events(_)) {
        slot.enter(Stage::Events);
    }
    response.write(&stream, head)?;
    stream.shutdown(Shutdown::Write)?;
    // With bytes left unread the system would reset the connection, perhaps before the client has read the response.
    stream.set_read_timeout(Some(PAUSE))?;
    let _ = std::io::copy(&mut (&stream).take(UNREAD), &mut std::io::sink());
    Ok(())
}
