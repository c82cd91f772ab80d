//! Proofs of identity: passwords and HS256 tokens.
//!
//! Pure arithmetic over bytes: who a header claims to be and whether the claim is genuine. Which rights that identity
//! has is decided in `db/users.rs`. Secrets are compared in constant time, and no message ever repeats one.

use crate::types::Auth;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

/// Longest `Authorization` header that is looked at.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// Whom a genuine token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// Another node or an operator with the deployment's secret: every right.
    Superuser {
        /// If present, the token opens only these paths.
        allowed_paths: Option<Vec<String>>,
    },
    User(String),
}

/// What an `Authorization` header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// No header.
    Missing,
    /// A name and a password, still to be checked against the user's hash.
    Basic { user: String, password: String },
    /// A token, verified.
    Bearer(Token),
    /// Unreadable, forged or expired.
    Invalid,
}

/// Reads the header; a token is verified here, a password by whoever knows the users.
pub fn credentials(auth: &Auth, authorization: Option<&str>, wall_ms: u64) -> Credentials {
    let Some(header) = authorization else { return Credentials::Missing };
    if header.len() > HEADER_BYTES_MAX {
        return Credentials::Invalid;
    }
    let (scheme, value) = header.trim().split_once(' ').unwrap_or((header, ""));
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().and_then(|text| text.split_once(':')) {
            Some((user, password)) => Credentials::Basic { user: user.to_owned(), password: password.to_owned() },
            None => Credentials::Invalid,
        }
    } else if scheme.eq_ignore_ascii_case("bearer") {
        verify_token(auth, value, wall_ms).map_or(Credentials::Invalid, Credentials::Bearer)
    } else {
        Credentials::Invalid
    }
}

/// Whether a request to the agency or from a peer comes from somebody who has the deployment's secret. A token that is
/// confined to some paths does not count.
pub fn verify_superuser(auth: &Auth, authorization: Option<&str>, wall_ms: u64) -> bool {
    !auth.enabled
        || credentials(auth, authorization, wall_ms) == Credentials::Bearer(Token::Superuser { allowed_paths: None })
}

/// A token that proves to other nodes that this one has the secret; `None` without a secret.
pub fn superuser_token(auth: &Auth) -> Option<String> {
    sign(auth, &json!({"iss": "arangodb", "server_id": "tanist"}))
}

/// What `/_open/auth` hands out; `None` without a secret.
pub fn user_token(auth: &Auth, user: &str, wall_ms: u64) -> Option<String> {
    let issued = wall_ms / 1000;
    let expires = issued.saturating_add(auth.session_timeout.as_secs());
    sign(auth, &json!({"iss": "arangodb", "preferred_username": user, "iat": issued, "exp": expires}))
}

fn sign(auth: &Auth, claims: &Value) -> Option<String> {
    let secret = auth.secrets.first()?;
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = URL_SAFE_NO_PAD.encode(hs256(secret, &signed).finalize().into_bytes());
    Some(format!("{signed}.{signature}"))
}

fn hs256(secret: &[u8], signed: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    mac
}

fn verify_token(auth: &Auth, token: &str, wall_ms: u64) -> Option<Token> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    // Every secret is tried, so that a rotation of secrets goes unnoticed.
    if !auth.secrets.iter().any(|secret| hs256(secret, signed).verify_slice(&signature).is_ok()) {
        return None;
    }
    let parse = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    let (header, claims) = (parse(header)?, parse(claims)?);
    if header.get("alg")?.as_str()? != "HS256" || claims.get("iss")?.as_str()? != "arangodb" {
        return None;
    }
    if let Some(expires) = claims.get("exp")
        && expires.as_f64()? * 1000.0 <= wall_ms as f64
    {
        return None;
    }
    if let Some(user) = claims.get("preferred_username") {
        return user.as_str().filter(|user| !user.is_empty()).map(|user| Token::User(user.to_owned()));
    }
    claims.get("server_id")?.as_str()?;
    let allowed_paths = match claims.get("allowed_paths") {
        None => None,
        Some(paths) => {
            Some(paths.as_array()?.iter().map(|path| path.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()?)
        }
    };
    Some(Token::Superuser { allowed_paths })
}

/// A password as `_users` keeps it: hexadecimal digest of salt and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordHash {
    pub method: String,
    pub salt: String,
    pub hash: String,
}

impl PasswordHash {
    /// A new password: SHA-256 under a salt of eight hexadecimal digits.
    pub fn new(password: &str, chance: u64) -> PasswordHash {
        PasswordHash::with("sha256", format!("{:08x}", chance as u32), password).expect("sha256 is known")
    }

    /// A change of password keeps the user's salt and method; `None` for a method that is not known.
    pub fn with(method: &str, salt: String, password: &str) -> Option<PasswordHash> {
        let hash = digest(method, format!("{salt}{password}").as_bytes())?;
        Some(PasswordHash { method: method.to_owned(), salt, hash })
    }

    pub fn matches(&self, password: &str) -> bool {
        digest(&self.method, format!("{}{password}", self.salt).as_bytes())
            .is_some_and(|hash| bool::from(hash.as_bytes().ct_eq(self.hash.to_ascii_lowercase().as_bytes())))
    }
}

fn digest(method: &str, bytes: &[u8]) -> Option<String> {
    Some(match method {
        "sha256" => hex(&Sha256::digest(bytes)),
        "sha1" => hex(&sha1::Sha1::digest(bytes)),
        "sha224" => hex(&Sha224::digest(bytes)),
        "sha384" => hex(&Sha384::digest(bytes)),
        "sha512" => hex(&Sha512::digest(bytes)),
        "md5" => hex(&md5::Md5::digest(bytes)),
        _ => return None,
    })
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn auth(secrets: &[&str]) -> Auth {
        let secrets = secrets.iter().map(|s| s.as_bytes().to_vec()).collect();
        Auth { enabled: true, secrets, ..Auth::default() }
    }

    #[test]
    fn a_superuser_token_opens_every_node_that_has_the_secret() {
        let token = format!("bearer {}", superuser_token(&auth(&["s"])).unwrap());
        assert!(verify_superuser(&auth(&["s"]), Some(&token), 0));
        assert!(verify_superuser(&auth(&["new", "s"]), Some(&token), 0), "an older secret still verifies");
        assert!(!verify_superuser(&auth(&["other"]), Some(&token), 0));
        assert!(!verify_superuser(&auth(&["s"]), None, 0));
        assert!(!verify_superuser(&auth(&[]), Some(&token), 0));
        let open = Auth { enabled: false, ..auth(&[]) };
        assert!(verify_superuser(&open, None, 0));
        assert_eq!(superuser_token(&auth(&[])), None);
    }

    #[test]
    fn a_user_token_ends_and_gives_no_superuser_rights() {
        let auth = Auth { session_timeout: Duration::from_secs(10), ..auth(&["s"]) };
        let header = format!("Bearer {}", user_token(&auth, "ann", 5_000).unwrap());
        assert_eq!(credentials(&auth, Some(&header), 14_999), Credentials::Bearer(Token::User("ann".into())));
        assert_eq!(credentials(&auth, Some(&header), 15_000), Credentials::Invalid);
        assert!(!verify_superuser(&auth, Some(&header), 6_000));
    }

    #[test]
    fn forged_tokens_are_refused() {
        let auth = auth(&["s"]);
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = |header: &str, claims: &str| {
            let signed = format!("{}.{}", part(header), part(claims));
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hs256(b"s", &signed).finalize().into_bytes()))
        };
        let good = r#"{"alg":"HS256","typ":"JWT"}"#;
        let claims = r#"{"iss":"arangodb","server_id":"x"}"#;
        assert!(verify_token(&auth, &signed(good, claims), 0).is_some());
        for bad in [
            format!("{}.{}.", part(r#"{"alg":"none"}"#), part(claims)),
            signed(r#"{"alg":"none"}"#, claims),
            signed(good, r#"{"iss":"other","server_id":"x"}"#),
            signed(good, r#"{"iss":"arangodb"}"#),
            signed(good, r#"{"iss":"arangodb","server_id":"x","exp":"never"}"#),
            signed(good, r#"{"iss":"arangodb","preferred_username":7,"server_id":"x"}"#),
            signed(good, "[]"),
            signed(good, claims).replace('.', ""),
            "..".into(),
            String::new(),
        ] {
            assert_eq!(verify_token(&auth, &bad, 1), None, "{bad}");
        }
        let confined = signed(good, r#"{"iss":"arangodb","server_id":"x","allowed_paths":["/_api/version"]}"#);
        assert!(!verify_superuser(&auth, Some(&format!("bearer {confined}")), 0));
        assert_eq!(
            credentials(&auth, Some(&format!("bearer {confined}")), 0),
            Credentials::Bearer(Token::Superuser { allowed_paths: Some(vec!["/_api/version".into()]) })
        );
    }

    #[test]
    fn basic_headers_are_read() {
        let read = |header: &str| credentials(&auth(&[]), Some(header), 0);
        let basic = |user: &str, password: &str| Credentials::Basic { user: user.into(), password: password.into() };
        assert_eq!(read("Basic cm9vdDo="), basic("root", ""));
        assert_eq!(read("bAsIc YTpiOmM="), basic("a", "b:c"));
        for bad in ["Basic", "Basic !!", "Basic cm9vdA==", "Digest x", "", &"x".repeat(HEADER_BYTES_MAX + 1)] {
            assert_eq!(read(bad), Credentials::Invalid, "{bad}");
        }
    }

    #[test]
    fn passwords_match_by_every_method() {
        let new = PasswordHash::new("secret", 0x1234_5678_9abc_def0);
        assert_eq!((new.method.as_str(), new.salt.as_str()), ("sha256", "9abcdef0"));
        assert!(new.matches("secret") && !new.matches("Secret"));
        for (method, hash) in [
            ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            ("sha224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
            ("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            ("md5", "900150983cd24fb0d6963f7d28e17f72"),
        ] {
            let stored = PasswordHash { method: method.into(), salt: "a".into(), hash: hash.into() };
            assert!(stored.matches("bc"), "{method}");
        }
        for method in ["sha384", "sha512"] {
            assert!(PasswordHash::with(method, "a".into(), "bc").unwrap().matches("bc"));
        }
        assert_eq!(PasswordHash::with("crc32", "a".into(), "bc"), None);
        assert!(!PasswordHash { method: "crc32".into(), ..new }.matches("secret"));
    }
}
