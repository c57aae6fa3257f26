//! A response, and how it is written: every body at a least rate, a stream of events until the client is gone.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Least rate in bytes per second at which a body must be read, after the first seconds.
const RATE: f64 = 20e3;
const GRACE: Duration = Duration::from_secs(20);

/// Sent with every response. Nothing is loaded from elsewhere, nothing is embedded elsewhere, and nothing is kept: the files may
/// have changed.
const ALWAYS: &str = "X-Content-Type-Options: nosniff\r\n\
    Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n\
    Cache-Control: no-store\r\nConnection: close\r\n";

/// A response.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// The media type of the body.
    pub kind: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Body,
}

/// A body.
pub enum Body {
    /// Bytes.
    Bytes(Vec<u8>),
    /// A file of this size; only so much of it is sent if it grows.
    File(File, u64),
    /// Server-sent events: each call waits for the next; `None` ends the stream. An empty text only keeps the connection.
    Events(Box<dyn FnMut() -> Option<String> + Send>),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Body::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Body::File(_, size) => write!(f, "a file of {size} bytes"),
            Body::Events(_) => f.write_str("events"),
        }
    }
}

impl PartialEq for Response {
    /// Equal in all but the body.
    fn eq(&self, other: &Self) -> bool {
        (self.status, self.kind, &self.headers) == (other.status, other.kind, &other.headers)
    }
}

impl Response {
    /// A page, script or the like.
    pub fn new(kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Response { status: 200, kind, headers: Vec::new(), body: Body::Bytes(body.into()) }
    }

    /// A value as JSON.
    pub fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => Response::new("application/json", bytes),
            Err(error) => Response::refusal(500, &error.to_string()),
        }
    }

    /// A status with its reason, as JSON.
    pub fn refusal(status: u16, why: &str) -> Self {
        Response { status, ..Response::json(&serde_json::json!({ "error": why })) }
    }

    /// A header more.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Writes the response, without its body if only the header is wanted.
    ///
    /// # Errors
    /// The system's error if the client is gone or does not read.
    pub fn write(self, stream: &TcpStream, head: bool) -> std::io::Result<()> {
        let mut text = format!("HTTP/1.1 {} {}\r\n{ALWAYS}", self.status, reason(self.status));
        let mut header = |name: &str, value: &str| text += &format!("{name}: {value}\r\n");
        header("Content-Type", self.kind);
        match &self.body {
            Body::Bytes(bytes) => header("Content-Length", &bytes.len().to_string()),
            Body::File(_, size) => header("Content-Length", &size.to_string()),
            Body::Events(_) => {}
        }
        // A header cannot be continued on another line.
        self.headers.iter().for_each(|(name, value)| header(name, &value.replace(|c: char| c.is_control(), " ")));
        text += "\r\n";
        let size = match &self.body {
            Body::Bytes(bytes) => bytes.len() as f64,
            Body::File(_, size) => *size as f64,
            Body::Events(_) => 0.0,
        };
        let mut out = Timed { stream, by: Instant::now() + GRACE + Duration::from_secs_f64(size / RATE) };
        out.write_all(text.as_bytes())?;
        match self.body {
            _ if head => Ok(()),
            Body::Bytes(bytes) => out.write_all(&bytes),
            Body::File(file, size) => std::io::copy(&mut file.take(size), &mut out).map(|_| ()),
            Body::Events(mut next) => {
                while let Some(event) = next() {
                    out.by = Instant::now() + GRACE;
                    let event = if event.is_empty() { ":\n\n".to_owned() } else { format!("data: {event}\n\n") };
                    out.write_all(event.as_bytes())?;
                }
                Ok(())
            }
        }
    }
}

/// A connection that must have taken everything by then.
struct Timed<'a> {
    stream: &'a TcpStream,
    by: Instant,
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let left = self.by.saturating_duration_since(Instant::now());
        if left < Duration::from_millis(1) {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_write_timeout(Some(left))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        303 => "See Other",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    }
}
