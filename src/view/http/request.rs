//! A request: its path, query and the headers that matter here.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Response;

/// Greatest size of a request in bytes, and greatest number of its headers.
const LARGEST: usize = 16 << 10;
const HEADERS: usize = 64;

/// A GET or HEAD request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whether only the header of the response is wanted.
    pub head: bool,
    /// The parts of the path, decoded: none is empty, `.` or `..`, or has a separator.
    pub path: Vec<String>,
    /// Names and values of the query, decoded.
    pub query: Vec<(String, String)>,
    /// The header `Host`.
    pub host: String,
    /// The header `Cookie`.
    pub cookie: String,
}

impl Request {
    /// Reads a request, which must have arrived by then; or the response that refuses it.
    ///
    /// # Errors
    /// The system's error if the connection is closed or late.
    pub fn read(mut stream: &TcpStream, by: Instant) -> std::io::Result<Result<Request, Response>> {
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        loop {
            let left = by.saturating_duration_since(Instant::now());
            if left < Duration::from_millis(1) {
                return Err(ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left))?;
            let count = stream.read(&mut part)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&part[..count]);
            match Request::parse(&bytes) {
                Ok(None) if bytes.len() > LARGEST => {
                    return Ok(Err(Response::refusal(431, "the request is too large")));
                }
                Ok(None) => {}
                Ok(Some(request)) => return Ok(Ok(request)),
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
    }

    /// Parses a request; `None` if it is not complete.
    ///
    /// # Errors
    /// The response that refuses it.
    pub fn parse(bytes: &[u8]) -> Result<Option<Request>, Response> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let refuse = |error: httparse::Error| match error {
            httparse::Error::TooManyHeaders => Response::refusal(431, "the request has too many headers"),
            error => Response::refusal(400, &format!("not a request: {error}")),
        };
        if parsed.parse(bytes).map_err(refuse)?.is_partial() {
            return Ok(None);
        }
        let head = match parsed.method {
            Some("GET") => false,
            Some("HEAD") => true,
            _ => return Err(Response::refusal(405, "these pages can only be read").header("Allow", "GET, HEAD")),
        };
        let header = |name: &str| -> Result<String, Response> {
            let mut all = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            match (all.next(), all.next()) {
                (Some(header), None) => Ok(String::from_utf8_lossy(header.value).into_owned()),
                (None, _) => Ok(String::new()),
                _ => Err(Response::refusal(400, &format!("the header {name} is there twice"))),
            }
        };
        let target = parsed.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Some(path) = path.strip_prefix('/').and_then(segments) else {
            return Err(Response::refusal(400, "there is no such path"));
        };
        Ok(Some(Request { head, path, query: pairs(query), host: header("Host")?, cookie: header("Cookie")? }))
    }

    /// A value of the query.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The parts of a path; `None` if one could leave a directory. A final slash is ignored.
fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(Vec::new());
    }
    let is_name = |part: &String| !part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\\', '\0']);
    path.split('/').map(|part| decode(part, false).filter(is_name)).collect()
}

/// The names and values of a query; what cannot be decoded is left out.
fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Some((decode(name, true)?, decode(value, true)?))
    };
    query.split('&').filter(|text| !text.is_empty()).filter_map(pair).collect()
}

/// Decodes `%2F` and, in a query, `+`, once; `None` if that is not UTF-8 or an escape is cut short.
fn decode(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (digit(rest.next()?)? * 16 + digit(rest.next()?)?) as u8
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Request>, Response> {
        Request::parse(text.as_bytes())
    }

    fn get(target: &str) -> Result<Option<Request>, Response> {
        parse(&format!("GET {target} HTTP/1.1\r\nHost: localhost:1\r\n\r\n"))
    }

    #[test]
    fn a_request_is_decoded_once() {
        let request = get("/runs/a%20b/?key=train.bptt&value=%2B1+2&flag").unwrap().unwrap();
        assert_eq!(request.path, ["runs", "a b"]);
        assert_eq!(
            (request.value("value"), request.value("flag"), request.value("no")),
            (Some("+1 2"), Some(""), None)
        );
        assert_eq!((request.host.as_str(), request.head), ("localhost:1", false));
        assert_eq!(get("/%252e%252e").unwrap().unwrap().path, ["%2e%2e"]);
    }

    #[test]
    fn no_path_leaves_its_directory() {
        for path in [
            "/../etc/passwd",
            "/files/../../etc/passwd",
            "/%2e%2e/etc/passwd",
            "/%2E./x",
            "/a%2f..%2fb",
            "/a%5c..%5cb",
            "//etc/passwd",
            "/a/./b",
            "/a%00",
            "/%c0%ae%c0%ae/",
            "/%",
            "/%zz",
            "http://localhost/",
            "*",
        ] {
            assert_eq!(get(path).map(|_| ()).unwrap_err().status, 400, "{path}");
        }
    }

    #[test]
    fn only_whole_requests_to_read_are_accepted() {
        assert_eq!(parse("GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
        for (text, status) in [
            ("POST / HTTP/1.1\r\n\r\n", 405),
            ("PUT /x HTTP/1.1\r\n\r\n", 405),
            ("nonsense\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("\u{16}\u{3}\u{1}\u{2}", 400),
        ] {
            assert_eq!(parse(text).map(|_| ()).unwrap_err().status, status, "{text:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        assert_eq!(parse(&many).map(|_| ()).unwrap_err().status, 431);
    }
}
