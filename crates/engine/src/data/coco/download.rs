//! Downloads an archive into a `.part` file, from which later attempts and runs resume.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::{Archive, Event, Job, Mismatch, gigabytes, part_of};
use crate::error::{Error, Result};

/// Consecutive attempts without progress before giving up.
const TRIES: u32 = 4;
/// Delay before the second attempt, doubled before each further one.
const WAIT: Duration = Duration::from_millis(250);
/// Timeout without any data.
const SILENCE: Duration = Duration::from_secs(60);
/// Interval at which the stop flag is polled.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes per message.
const CHUNK: usize = 1 << 18;

/// Downloads an archive, verifies it, and moves it to its final name.
pub(super) fn get(job: &Job<'_>, archive: &Archive, to: &Path) -> Result<()> {
    let (part, url) = (part_of(to), format!("{}/{}", job.base, archive.path));
    let failed = |what: String| Error::Download(format!("cannot get {url}: {what}"));
    let again = "run again to go on with the download";
    let (mut attempt, mut wait) = (1, WAIT);
    loop {
        let before = length(&part);
        match transfer(job, archive, &url, &part) {
            Ok(()) => break,
            Err(Failure::Error(error)) => return Err(error),
            Err(Failure::Permanent(what)) => return Err(failed(what)),
            Err(Failure::Transient(what)) => {
                if length(&part) > before {
                    (attempt, wait) = (0, WAIT);
                }
                if attempt >= TRIES {
                    return Err(failed(format!("{what} (tried {TRIES} times); {again}")));
                }
                job.say(format!("{}: {what}; trying again", archive.name));
                pause(job, wait)?;
                (attempt, wait) = (attempt + 1, wait * 2);
            }
        }
    }
    match job.verify(archive, &part) {
        Ok(()) => fs::rename(&part, to).map_err(Error::io("write", to)),
        Err(Mismatch::Failed(error)) => Err(error),
        Err(Mismatch::Other(what)) => {
            let _ = fs::remove_file(&part);
            Err(failed(format!("what came {what}, so it was not kept; run again, or choose a mirror with `--base`")))
        }
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Sleeps; fails if interrupted.
fn pause(job: &Job<'_>, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if (job.stop)() {
            return Err(Error::Interrupted);
        }
        std::thread::sleep(LOOK.min(time));
    }
    Ok(())
}

/// Why an attempt failed, and whether to retry.
enum Failure {
    Transient(String),
    Permanent(String),
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

/// A message from the thread of a transfer.
enum Message {
    /// The offset of the first byte, and the size of the whole file.
    Begins {
        from: u64,
        total: Option<u64>,
    },
    Bytes(Vec<u8>),
    End,
    Failed(Failure),
}

/// One attempt. The request runs on its own thread, so that a stalled one can be abandoned.
fn transfer(job: &Job<'_>, archive: &Archive, url: &str, part: &Path) -> Result<(), Failure> {
    let mut have = length(part);
    if archive.size.is_some_and(|size| have > size) {
        fs::remove_file(part).map_err(Error::io("delete", part))?;
        have = 0;
    }
    if have > 0 && archive.size == Some(have) {
        return Ok(());
    }
    let (send, receive) = sync_channel(8);
    let url = url.to_owned();
    std::thread::spawn(move || {
        let end = request(&url, have, &send).map_or_else(Message::Failed, |()| Message::End);
        // Fails only if the receiver is gone.
        let _ = send.send(end);
    });
    let what = format!("downloading {}", archive.name);
    let mut open: Option<(File, u64, Option<u64>)> = None;
    loop {
        match (next_message(job, &receive)?, &mut open) {
            (Message::Begins { from, total }, _) => open = Some(begin(job, archive, part, have, from, total)?),
            (Message::Bytes(bytes), Some((file, at, total))) => {
                file.write_all(&bytes).map_err(Error::io("write", part))?;
                *at += bytes.len() as u64;
                (job.show)(Event::Bytes { what: &what, done: *at, of: total.unwrap_or(*at) });
            }
            (Message::End, Some((file, at, total))) => {
                file.sync_all().map_err(Error::io("write", part))?;
                return match total {
                    Some(total) if at != total => {
                        Err(Failure::Transient(format!("cut off after {at} of {total} bytes")))
                    }
                    _ => Ok(()),
                };
            }
            (Message::Failed(Failure::Transient(what)), _) if what == GONE => {
                fs::remove_file(part).map_err(Error::io("delete", part))?;
                return Err(Failure::Transient(what));
            }
            (Message::Failed(failure), _) => return Err(failure),
            (Message::Bytes(_) | Message::End, None) => {
                return Err(Failure::Transient("an answer without a beginning".into()));
            }
        }
    }
}

/// The next message; fails after a timeout or if interrupted.
fn next_message(job: &Job<'_>, receive: &Receiver<Message>) -> Result<Message, Failure> {
    let since = Instant::now();
    loop {
        if (job.stop)() {
            return Err(Error::Interrupted.into());
        }
        match receive.recv_timeout(LOOK) {
            Ok(message) => return Ok(message),
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::Transient("the transfer ended".into())),
            Err(RecvTimeoutError::Timeout) if since.elapsed() > SILENCE => {
                return Err(Failure::Transient(format!("nothing came for {} s", SILENCE.as_secs())));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Opens the file for bytes from offset `from`; truncates it if the server does not support ranges.
fn begin(
    job: &Job<'_>,
    archive: &Archive,
    part: &Path,
    have: u64,
    from: u64,
    total: Option<u64>,
) -> Result<(File, u64, Option<u64>), Failure> {
    if let (Some(published), Some(total)) = (archive.size, total)
        && published != total
    {
        return Err(Failure::Permanent(format!(
            "it has {total} bytes there, and {published} were published; choose a mirror with `--base`, or take it as \
             it is with `--unchecked`"
        )));
    }
    if from != have && from != 0 {
        return Err(Failure::Permanent(format!(
            "the server was asked for bytes from {have}, and sends them from {from}"
        )));
    }
    let (needed, free) = (total.unwrap_or(0).saturating_sub(have), (job.free)(&job.folder)?);
    if needed > free {
        return Err(Failure::Error(Error::Usage(format!(
            "{}: there is no room: {} is {} more, and {} are free; make room and run again",
            job.folder.display(),
            archive.name,
            gigabytes(needed),
            gigabytes(free)
        ))));
    }
    let mut options = OpenOptions::new();
    match from {
        0 => options.write(true).create(true).truncate(true),
        _ => options.append(true),
    };
    let file = options.open(part).map_err(Error::io("write", part))?;
    if from > 0 {
        job.say(format!("{}: going on after {}", archive.name, gigabytes(from)));
    } else if have > 0 {
        job.say(format!("{}: the server cannot go on in the middle; from the beginning", archive.name));
    }
    Ok((file, from, total))
}

/// The server rejected the range.
const GONE: &str = "what is there already is more than the server has";

/// Requests a file from byte `have`.
fn request(url: &str, have: u64, send: &SyncSender<Message>) -> Result<(), Failure> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(SILENCE / 2))
        .timeout_recv_response(Some(SILENCE))
        .build();
    // With compression, ranges would refer to the compressed bytes.
    let mut request = ureq::Agent::new_with_config(config).get(url).header("Accept-Encoding", "identity");
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let answer = request.call().map_err(|error| match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Permanent(error.to_string()),
        error => Failure::Transient(error.to_string()),
    })?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let (from, total) = match answer.status().as_u16() {
        200 => (0, header("content-length").and_then(|length| length.parse().ok())),
        206 => header("content-range").and_then(range).ok_or_else(|| {
            Failure::Permanent("the server does not say which part of the file it sends (`Content-Range`)".into())
        })?,
        416 => return Err(Failure::Transient(GONE.into())),
        404 => return Err(Failure::Permanent("there is no such file (404)".into())),
        status @ (408 | 429 | 500..) => return Err(Failure::Transient(format!("the server fails ({status})"))),
        status => return Err(Failure::Permanent(format!("the server refuses ({status})"))),
    };
    // Sending fails only if the receiver is gone.
    if send.send(Message::Begins { from, total }).is_err() {
        return Ok(());
    }
    let mut body = answer.into_body().into_reader();
    loop {
        let mut chunk = vec![0; CHUNK];
        let count = body.read(&mut chunk).map_err(|error| Failure::Transient(format!("cut off: {error}")))?;
        chunk.truncate(count);
        if count == 0 || send.send(Message::Bytes(chunk)).is_err() {
            return Ok(());
        }
    }
}

/// Parses `bytes 5-9/10` or `bytes 5-9/*`: the first byte and the total size.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_parsed() {
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 0-9/*"), Some((0, None)));
        for text in ["", "bytes */10", "bytes 5/10", "5-9/10", "bytes x-9/10", "bytes -9/10"] {
            assert_eq!(range(text), None, "{text}");
        }
    }
}
