//! Who may read the pages: programs of this machine under this machine's names, or others with a token.

use std::net::{IpAddr, SocketAddr};

use super::http::{Request, Response};
use crate::error::{Error, Result};

/// What a request has to show.
pub struct Guard {
    address: SocketAddr,
    /// The token, where others than this machine can connect.
    token: Option<String>,
}

impl Guard {
    /// The guard of a server at this address; one that other machines can reach draws a token.
    ///
    /// # Errors
    /// [`Error::Usage`] if the system has no random numbers.
    pub fn new(address: SocketAddr) -> Result<Self> {
        let draw = || -> Result<String> {
            let half = || getrandom::u64().map_err(|error| Error::Usage(format!("cannot draw a token: {error}")));
            Ok(format!("{:016x}{:016x}", half()?, half()?))
        };
        Ok(Guard { address, token: if address.ip().is_loopback() { None } else { Some(draw()?) } })
    }

    /// The address of the first page.
    pub fn url(&self) -> String {
        let port = self.address.port();
        match &self.token {
            None => format!("http://{}/", self.address),
            Some(token) if self.address.ip().is_unspecified() => {
                format!("http://{}:{port}/?token={token}", crate::run::claim::host())
            }
            Some(token) => format!("http://{}/?token={token}", self.address),
        }
    }

    /// The refusal of a request, if it is refused.
    ///
    /// Without a token the name under which the server was found must be one of this machine: a page from elsewhere whose name
    /// is made to point here (DNS rebinding) has another. The port may be another, as a tunnel has it. A right token in the query
    /// is kept as a cookie, so that it leaves the address bar.
    pub fn refuses(&self, request: &Request) -> Option<Response> {
        let Some(token) = &self.token else {
            let own = is_own_name(&request.host);
            return (!own).then(|| {
                Response::refusal(
                    403,
                    "these pages are for this machine: open them as http://localhost or http://127.0.0.1",
                )
            });
        };
        let name = format!("ccdni-{}", self.address.port());
        let cookie = request.cookie.split(';').filter_map(|pair| pair.trim().split_once('='));
        if cookie.into_iter().any(|(key, value)| key == name && is_same(value, token)) {
            return None;
        }
        match request.value("token") {
            Some(given) if is_same(given, token) => Some(
                Response { status: 303, ..Response::new("text/plain; charset=utf-8", "") }
                    .header("Location", "/")
                    .header("Set-Cookie", format!("{name}={token}; HttpOnly; SameSite=Strict; Path=/")),
            ),
            _ => Some(Response::refusal(403, "the address lacks its token: open the one that `ccdni view` printed")),
        }
    }
}

/// Whether a `Host` header names this machine as itself.
fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

/// Whether two texts are equal, in a time that does not depend on where they differ.
fn is_same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, cookie: &str, token: Option<&str>) -> Request {
        let query = token.iter().map(|token| ("token".to_owned(), (*token).to_owned())).collect();
        Request { head: false, path: Vec::new(), query, host: host.into(), cookie: cookie.into() }
    }

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        let guard = Guard::new("127.0.0.1:8420".parse().unwrap()).unwrap();
        for own in ["localhost", "LOCALHOST:9", "127.0.0.1:8420", "[::1]:8420", "::1"] {
            assert!(guard.refuses(&request(own, "", None)).is_none(), "{own}");
        }
        for other in
            ["", "evil.example", "evil.example:8420", "localhost.evil.example", "192.168.0.7:8420", "127.0.0.1.nip.io"]
        {
            assert_eq!(guard.refuses(&request(other, "", None)).unwrap().status, 403, "{other}");
        }
    }

    #[test]
    fn others_need_the_token_and_keep_it_as_a_cookie() {
        let guard = Guard::new("0.0.0.0:8420".parse().unwrap()).unwrap();
        let url = guard.url();
        let token = url.split_once("token=").unwrap().1;
        for (cookie, given) in [("", None), ("", Some("0")), ("ccdni-8420=0", None), ("ccdni-1=x", Some(""))] {
            assert_eq!(guard.refuses(&request("node", cookie, given)).unwrap().status, 403);
        }
        let kept = guard.refuses(&request("node", "", Some(token))).unwrap();
        assert_eq!(kept.status, 303);
        let cookie = kept.headers.iter().find(|(name, _)| *name == "Set-Cookie").unwrap().1.split(';').next().unwrap();
        assert!(guard.refuses(&request("node", &format!("a=b; {cookie}"), None)).is_none());
    }
}
