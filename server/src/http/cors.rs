//! What scripts in web pages of another origin may see of an answer (CORS), as ArangoDB tells their browsers: all of
//! it, but credentials of the browser's own only for origins that are trusted (`--http.trusted-origin`).
//!
//! This is about browsers alone: it neither lets anybody in nor keeps anybody out.

use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderValue};
use tanist_engine::http as engine;

const EXPOSED: &str = "etag, content-encoding, content-length, location, server, x-arango-errors, x-arango-async-id";
/// Seconds for which a browser may remember what it was told.
const MAX_AGE_S: &str = "1800";

/// Origins whose pages may send the browser's own credentials; `*` is all of them.
#[derive(Clone, Debug, Default)]
pub struct Trusted(pub Vec<String>);

impl Trusted {
    fn has(&self, origin: &HeaderValue) -> bool {
        self.0.iter().any(|known| matches!(&**known, "*" | "all") || known.as_bytes() == origin.as_bytes())
    }
}

/// What a request says of where it comes from.
#[derive(Debug)]
pub struct Foreign {
    origin: HeaderValue,
    /// For a browser's question before the request itself.
    preflight: bool,
    headers: Option<HeaderValue>,
}

impl Foreign {
    pub fn of(method: &Method, headers: &HeaderMap) -> Option<Foreign> {
        Some(Foreign {
            origin: headers.get(header::ORIGIN)?.clone(),
            preflight: method == Method::OPTIONS,
            headers: headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
        })
    }

    /// Adds to an answer's headers.
    pub fn answer(self, trusted: &Trusted, headers: &mut HeaderMap) {
        let credentials = if trusted.has(&self.origin) { "true" } else { "false" };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static(credentials));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        if self.preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(engine::Method::ALLOWED));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_S));
            if let Some(asked) = self.headers {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(method: Method, asked: &[(&'static str, &'static str)], trusted: &[&str]) -> Option<Vec<String>> {
        let asked = asked.iter().map(|(name, value)| {
            let name = hyper::header::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let trusted = Trusted(trusted.iter().map(|&origin| origin.to_owned()).collect());
        let mut headers = HeaderMap::new();
        Foreign::of(&method, &asked.collect())?.answer(&trusted, &mut headers);
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        Some(lines)
    }

    #[test]
    fn a_page_of_another_origin_is_told_what_it_may() {
        assert_eq!(told(Method::GET, &[], &[]), None, "no browser");
        let origin = ("origin", "http://app:8080");
        let plain = [
            "access-control-allow-credentials: false".to_owned(),
            "access-control-allow-origin: http://app:8080".to_owned(),
            format!("access-control-expose-headers: {EXPOSED}"),
        ];
        assert_eq!(told(Method::GET, &[origin], &["http://other"]).unwrap(), plain);
        for trusted in ["http://app:8080", "*", "all"] {
            assert!(told(Method::GET, &[origin], &[trusted]).unwrap()[0].ends_with("true"), "{trusted}");
        }
        let asked = ("access-control-request-headers", "authorization");
        let before = told(Method::OPTIONS, &[origin, asked], &[]).unwrap();
        assert_eq!(before[1], "access-control-allow-headers: authorization");
        assert_eq!(before[2], format!("access-control-allow-methods: {}", engine::Method::ALLOWED));
        assert_eq!(before[5], "access-control-max-age: 1800");
    }
}
