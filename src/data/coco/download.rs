//! Downloads an archive into a `.part` file, which a later try or run goes on with.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::{Archive, Event, Job, Unlike, gigabytes, part_of};
use crate::error::{Error, Result};

/// How often a transfer is tried in which nothing comes; one that brings something starts the count anew.
const TRIES: u32 = 4;
/// The wait before the second try; before each further one twice the last.
const WAIT: Duration = Duration::from_millis(250);
/// After so long without a byte a transfer counts as cut off.
const SILENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether to stop.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes that are handed over at once.
const CHUNK: usize = 1 << 18;

/// Downloads an archive, checks it, and gives it its name.
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
            Err(Failure::ForGood(what)) => return Err(failed(what)),
            Err(Failure::ForNow(what)) => {
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
        Err(Unlike::Failed(error)) => Err(error),
        Err(Unlike::Other(what)) => {
            let _ = fs::remove_file(&part);
            Err(failed(format!("what came {what}, so it was not kept; run again, or choose a mirror with `--base`")))
        }
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Waits, unless it is time to stop.
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

/// Why a try failed, and whether another makes sense.
enum Failure {
    ForNow(String),
    ForGood(String),
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

/// What a transfer says.
enum Message {
    /// The bytes begin there; so many are in the whole file.
    Begins {
        from: u64,
        total: Option<u64>,
    },
    Bytes(Vec<u8>),
    End,
    Failed(Failure),
}

/// One try. The network is asked on a thread of its own, so that one that says nothing can be left behind.
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
        let end = ask(&url, have, &send).map_or_else(Message::Failed, |()| Message::End);
        // A reader that has gone wants nothing more.
        let _ = send.send(end);
    });
    let what = format!("downloading {}", archive.name);
    let mut open: Option<(File, u64, Option<u64>)> = None;
    loop {
        match (hear(job, &receive)?, &mut open) {
            (Message::Begins { from, total }, _) => open = Some(begin(job, archive, part, have, from, total)?),
            (Message::Bytes(bytes), Some((file, at, total))) => {
                file.write_all(&bytes).map_err(Error::io("write", part))?;
                *at += bytes.len() as u64;
                (job.show)(Event::Bytes { what: &what, done: *at, of: total.unwrap_or(*at) });
            }
            (Message::End, Some((file, at, total))) => {
                file.sync_all().map_err(Error::io("write", part))?;
                return match total {
                    Some(total) if at != total => Err(Failure::ForNow(format!("cut off after {at} of {total} bytes"))),
                    _ => Ok(()),
                };
            }
            (Message::Failed(Failure::ForNow(what)), _) if what == GONE => {
                fs::remove_file(part).map_err(Error::io("delete", part))?;
                return Err(Failure::ForNow(what));
            }
            (Message::Failed(failure), _) => return Err(failure),
            (Message::Bytes(_) | Message::End, None) => {
                return Err(Failure::ForNow("an answer without a beginning".into()));
            }
        }
    }
}

/// The next message; an error where there is none, or it is time to stop.
fn hear(job: &Job<'_>, receive: &Receiver<Message>) -> Result<Message, Failure> {
    let since = Instant::now();
    loop {
        if (job.stop)() {
            return Err(Error::Interrupted.into());
        }
        match receive.recv_timeout(LOOK) {
            Ok(message) => return Ok(message),
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::ForNow("the transfer ended".into())),
            Err(RecvTimeoutError::Timeout) if since.elapsed() > SILENCE => {
                return Err(Failure::ForNow(format!("nothing came for {} s", SILENCE.as_secs())));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Opens the file for bytes that begin at `from`: at its end, or, from a server that gives no ranges, anew.
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
        return Err(Failure::ForGood(format!(
            "it has {total} bytes there, and {published} were published; choose a mirror with `--base`, or take it as \
             it is with `--unchecked`"
        )));
    }
    if from != have && from != 0 {
        return Err(Failure::ForGood(format!(
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

/// The range that is left is not one of the file.
const GONE: &str = "what is there already is more than the server has";

/// Asks for a file from byte `have` on.
fn ask(url: &str, have: u64, send: &SyncSender<Message>) -> Result<(), Failure> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(SILENCE / 2))
        .timeout_recv_response(Some(SILENCE))
        .build();
    // Packed on its way, ranges would be of something else.
    let mut request = ureq::Agent::new_with_config(config).get(url).header("Accept-Encoding", "identity");
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let answer = request.call().map_err(|error| match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::ForGood(error.to_string()),
        error => Failure::ForNow(error.to_string()),
    })?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let (from, total) = match answer.status().as_u16() {
        200 => (0, header("content-length").and_then(|length| length.parse().ok())),
        206 => header("content-range").and_then(range).ok_or_else(|| {
            Failure::ForGood("the server does not say which part of the file it sends (`Content-Range`)".into())
        })?,
        416 => return Err(Failure::ForNow(GONE.into())),
        404 => return Err(Failure::ForGood("there is no such file (404)".into())),
        status @ (408 | 429 | 500..) => return Err(Failure::ForNow(format!("the server fails ({status})"))),
        status => return Err(Failure::ForGood(format!("the server refuses ({status})"))),
    };
    // An error to send is a reader that has gone.
    if send.send(Message::Begins { from, total }).is_err() {
        return Ok(());
    }
    let mut body = answer.into_body().into_reader();
    loop {
        let mut chunk = vec![0; CHUNK];
        let count = body.read(&mut chunk).map_err(|error| Failure::ForNow(format!("cut off: {error}")))?;
        chunk.truncate(count);
        if count == 0 || send.send(Message::Bytes(chunk)).is_err() {
            return Ok(());
        }
    }
}

/// `bytes 5-9/10` or `bytes 5-9/*`: where it begins, and the whole.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_where_it_begins() {
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 0-9/*"), Some((0, None)));
        for text in ["", "bytes */10", "bytes 5/10", "5-9/10", "bytes x-9/10", "bytes -9/10"] {
            assert_eq!(range(text), None, "{text}");
        }
    }
}
