//! The head of a JWT: what its sender says of the key and of the signature. Nothing in it is
//! believed; it only has to agree with the key.
//!
//! Keys or addresses of keys that a token brings along (`jwk`, `jku`, `x5u`, `x5c`) are not read.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::settings::JwtAlgorithm;

/// Longest name of a key.
pub(super) const KID_MAX_BYTES: usize = 256;

/// The three parts of a token, as far as they are needed before its signature is checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) algorithm: JwtAlgorithm,
    pub(super) kid: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
    #[serde(default, deserialize_with = "is_there")]
    b64: bool,
}

fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

// === impl Header ===

impl Header {
    /// The head of a token; `None` for what is no token that we take.
    pub(super) fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (head, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || claims.is_empty() || signature.is_empty() {
            return None;
        }
        let written: Written = serde_json::from_slice(&base64url(head)?).ok()?;
        // Extensions that must be understood: we understand none.
        if written.crit || written.b64 || !written.typ.as_deref().is_none_or(is_access_token) {
            return None;
        }
        let named = |kid: &String| (1..=KID_MAX_BYTES).contains(&kid.len());
        if !written.kid.as_ref().is_none_or(named) {
            return None;
        }
        Some(Self {
            algorithm: JwtAlgorithm::from_word(&written.alg)?,
            kid: written.kid,
        })
    }
}

/// Not a logout token, a proof of possession or whatever else an issuer signs with the same key.
fn is_access_token(kind: &str) -> bool {
    ["JWT", "at+jwt", "application/at+jwt", "application/jwt"]
        .iter()
        .any(|it| it.eq_ignore_ascii_case(kind))
}

/// The bytes of base64url without padding (RFC 4648 §5).
pub(super) fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            let [.., byte] = (bits >> count).to_be_bytes();
            bytes.push(byte);
        }
    }
    // One letter alone is no byte, and what is left over is zero.
    (count < 6 && bits & ((1 << count) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let all = three
                .iter()
                .fold(0_u32, |all, byte| (all << 8) | u32::from(*byte))
                << (8 * (3 - three.len()));
            for at in 0..=three.len() {
                text.push(char::from(LETTERS[(all >> (18 - 6 * at)) as usize & 63]));
            }
        }
        text
    }

    fn of(head: &str) -> Option<Header> {
        Header::of(&format!("{}.e30.AAAA", encoded(head.as_bytes())))
    }

    #[test]
    fn bytes_come_back_from_base64url_and_nothing_else_does() {
        // RFC 7515, appendix C.
        assert_eq!(base64url("A-z_4ME"), Some(vec![3, 236, 255, 224, 193]));
        for length in 0..40_u8 {
            let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(37)).collect();
            assert_eq!(base64url(&encoded(&bytes)), Some(bytes));
        }
        for bad in ["A", "AAAAA", "AB", "AA==", "A+AA", "A/AA", "é", "A A"] {
            assert_eq!(base64url(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_head_names_algorithm_and_key() {
        let header = of(r#"{"alg":"ES256","kid":"k1","typ":"at+JWT","jku":"http://x/"}"#).unwrap();
        assert_eq!(header.algorithm, JwtAlgorithm::Es256);
        assert_eq!(header.kid.as_deref(), Some("k1"));
        assert_eq!(of(r#"{"alg":"HS256"}"#).unwrap().kid, None);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let long = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(257));
        for head in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":""}"#,
            r#"{"alg":"rs256"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":["RS256"]}"#,
            r#"{"kid":"k1"}"#,
            r#"{"alg":"RS256","alg":"none"}"#,
            r#"{"alg":"RS256","crit":["exp"]}"#,
            r#"{"alg":"RS256","crit":null}"#,
            r#"{"alg":"RS256","b64":false}"#,
            r#"{"alg":"RS256","typ":"logout+jwt"}"#,
            r#"{"alg":"RS256","kid":7}"#,
            r#"{"alg":"RS256","kid":""}"#,
            &long,
            "[]",
            "x",
        ] {
            assert_eq!(of(head), None, "{head}");
        }
    }

    #[test]
    fn a_token_has_three_parts() {
        let head = encoded(br#"{"alg":"RS256"}"#);
        for token in [
            head.clone(),
            format!("{head}.e30"),
            format!("{head}.e30."),
            format!("{head}..AAAA"),
            format!("{head}.e30.AAAA.AAAA"),
            format!("{head}=.e30.AAAA"),
        ] {
            assert_eq!(Header::of(&token), None, "{token}");
        }
    }
}
