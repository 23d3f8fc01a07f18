//! A set of keys (RFC 7517): which of them tokens may be checked with, and which are left out.
//!
//! Each key has one algorithm, by its kind; no token can make it another. One bad key never costs
//! the others.

use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use super::header::{KID_MAX_BYTES, base64url};
use crate::settings::JwtAlgorithm;

/// Keys of one set.
const KEYS_MAX: usize = 100;
/// Least bytes of a secret for HS256 (RFC 7518 §3.2).
pub(super) const SECRET_MIN_BYTES: usize = 32;
/// What the modulus of an RSA key may have.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// A coordinate of P-256, and a key of Ed25519.
const POINT_BYTES: usize = 32;

/// Why a set of keys is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Not JSON, or no list `keys`.
    #[error("it is no JWKS: no JSON object with a list \"keys\"")]
    NotASet,
    /// More keys than are looked at.
    #[error("it has {keys} keys, at most {KEYS_MAX} are taken")]
    TooMany {
        /// How many.
        keys: usize,
    },
    /// All keys were left out.
    #[error("it has no key that tokens could be checked with{}", because(.left_out))]
    NoUsableKey {
        /// Each key and why.
        left_out: Vec<String>,
    },
}

fn because(left_out: &[String]) -> String {
    match left_out {
        [] => String::new(),
        some => format!(": {}", some.join("; ")),
    }
}

/// What tokens are checked with.
pub(super) struct Key {
    kid: Option<String>,
    pub(super) algorithm: JwtAlgorithm,
    pub(super) decoding: DecodingKey,
}

/// The keys of one set.
pub(super) struct KeySet {
    keys: Vec<Key>,
    pub(super) left_out: Vec<String>,
}

/// The key for a token.
pub(super) enum Pick<'a> {
    Key(&'a Key),
    /// No key has that name.
    Unknown,
    /// The key of that name has another algorithm; or the token names none and several fit.
    Wrong,
}

/// A key as it is written.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

// === impl KeySet ===

impl KeySet {
    /// Reads a set; `with_secrets` where nobody else can read it.
    pub(super) fn parse(
        bytes: &[u8],
        allowed: &[JwtAlgorithm],
        with_secrets: bool,
    ) -> Result<Self, JwksError> {
        #[derive(Deserialize)]
        struct Written {
            keys: Vec<Value>,
        }
        let written: Written = serde_json::from_slice(bytes).map_err(|_| JwksError::NotASet)?;
        if written.keys.len() > KEYS_MAX {
            let keys = written.keys.len();
            return Err(JwksError::TooMany { keys });
        }
        let (mut keys, mut left_out): (Vec<Key>, _) = (Vec::new(), Vec::new());
        for (at, value) in written.keys.into_iter().enumerate() {
            let name = value["kid"].as_str().map(short);
            let name = name.unwrap_or_else(|| format!("number {}", at + 1));
            match key(value, allowed, with_secrets) {
                Ok(key) if keys.iter().any(|it| it.is_like(&key)) => {
                    left_out.push(format!("key {name}: another one has the same kid"));
                }
                Ok(key) => keys.push(key),
                Err(why) => left_out.push(format!("key {name}: {why}")),
            }
        }
        match keys.is_empty() {
            true => Err(JwksError::NoUsableKey { left_out }),
            false => Ok(Self { keys, left_out }),
        }
    }

    /// The key that a token is to be checked with.
    pub(super) fn pick(&self, kid: Option<&str>, algorithm: JwtAlgorithm) -> Pick<'_> {
        if let Some(kid) = kid {
            let mut named = self
                .keys
                .iter()
                .filter(|key| key.kid.as_deref() == Some(kid));
            let mut named = named.by_ref().peekable();
            if named.peek().is_none() {
                return Pick::Unknown;
            }
            return named
                .find(|key| key.algorithm == algorithm)
                .map_or(Pick::Wrong, Pick::Key);
        }
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Pick::Key(key),
            (Some(_), Some(_)) | (None, _) => Pick::Wrong,
        }
    }

    pub(super) fn has(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Each key's name and algorithm, for people.
    pub(super) fn names(&self) -> Vec<String> {
        let name = |key: &Key| {
            let kid = key.kid.as_deref().map_or("without a kid".to_owned(), short);
            format!("{kid} ({})", key.algorithm.as_str())
        };
        self.keys.iter().map(name).collect()
    }
}

// === impl Key ===

impl Key {
    /// For HS256.
    pub(super) fn secret(secret: &[u8]) -> Self {
        Self {
            kid: None,
            algorithm: JwtAlgorithm::Hs256,
            decoding: DecodingKey::from_secret(secret),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.kid == other.kid && self.algorithm == other.algorithm
    }
}

/// For messages: names of keys are free texts.
fn short(kid: &str) -> String {
    let plain = kid.chars().filter(|c| !c.is_control());
    plain.take(64).collect()
}

fn key(value: Value, allowed: &[JwtAlgorithm], with_secrets: bool) -> Result<Key, &'static str> {
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "a member of it has a wrong type")?;
    if jwk.used_for.as_deref().is_some_and(|it| it != "sig") {
        return Err("it is not for signatures (use)");
    }
    let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
    if !jwk.key_ops.as_ref().is_none_or(verifies) {
        return Err("it is not for checking signatures (key_ops)");
    }
    let named = |kid: &String| (1..=KID_MAX_BYTES).contains(&kid.len());
    if !jwk.kid.as_ref().is_none_or(named) {
        return Err("its kid is empty or too long");
    }
    let (algorithm, decoding) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => (JwtAlgorithm::Rs256, rsa(&jwk)?),
        ("EC", Some("P-256")) => (JwtAlgorithm::Es256, ec(&jwk)?),
        ("OKP", Some("Ed25519")) => (JwtAlgorithm::EdDsa, ed(&jwk)?),
        ("oct", _) if !with_secrets => {
            return Err("a secret has no place where others can read it");
        }
        ("oct", _) => (JwtAlgorithm::Hs256, oct(&jwk)?),
        _ => return Err("it is of a kind that is not supported (kty, crv)"),
    };
    // RFC 9864 writes Ed25519 where RFC 8037 wrote EdDSA.
    let is_ours = |alg: &str| {
        alg == algorithm.as_str() || (algorithm, alg) == (JwtAlgorithm::EdDsa, "Ed25519")
    };
    if !jwk.alg.as_deref().is_none_or(is_ours) {
        return Err("it is for another algorithm (alg)");
    }
    if !allowed.contains(&algorithm) {
        return Err("its algorithm is not allowed by the settings");
    }
    Ok(Key {
        kid: jwk.kid,
        algorithm,
        decoding,
    })
}

fn rsa(jwk: &Jwk) -> Result<DecodingKey, &'static str> {
    let (n, e) = (part(&jwk.n)?, part(&jwk.e)?);
    if !MODULUS_BYTES.contains(&n.len()) {
        return Err("an RSA key has 2048 to 8192 bits");
    }
    Ok(DecodingKey::from_rsa_raw_components(&n, &e))
}

fn ec(jwk: &Jwk) -> Result<DecodingKey, &'static str> {
    let (x, y) = (part(&jwk.x)?, part(&jwk.y)?);
    if x.len() != POINT_BYTES || y.len() != POINT_BYTES {
        return Err("a coordinate of P-256 has 32 bytes");
    }
    // An uncompressed point.
    Ok(DecodingKey::from_ec_der(&[&[4], &*x, &*y].concat()))
}

fn ed(jwk: &Jwk) -> Result<DecodingKey, &'static str> {
    let x = part(&jwk.x)?;
    if x.len() != POINT_BYTES {
        return Err("a key of Ed25519 has 32 bytes");
    }
    Ok(DecodingKey::from_ed_der(&x))
}

fn oct(jwk: &Jwk) -> Result<DecodingKey, &'static str> {
    let secret = part(&jwk.k)?;
    if secret.len() < SECRET_MIN_BYTES {
        return Err("a secret for HS256 has at least 32 bytes");
    }
    Ok(DecodingKey::from_secret(&secret))
}

fn part(text: &Option<String>) -> Result<Vec<u8>, &'static str> {
    let text = text.as_deref().ok_or("a member of it is missing")?;
    base64url(text).ok_or("a member of it is no base64url")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ALL: &[JwtAlgorithm] = &JwtAlgorithm::ALL;
    /// RFC 7517, appendix A.1, and RFC 8037, appendix A.2.
    const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    const EC_X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
    const EC_Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";
    const ED_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn parse(keys: &Value) -> Result<KeySet, JwksError> {
        let set = json!({ "keys": keys }).to_string();
        KeySet::parse(set.as_bytes(), ALL, false)
    }

    fn refusal(key: &Value) -> String {
        let Err(JwksError::NoUsableKey { left_out }) = parse(&json!([key])) else {
            panic!("it was taken");
        };
        left_out.concat()
    }

    #[test]
    fn each_kind_of_key_has_one_algorithm() {
        let set = parse(&json!([
            {"kty":"RSA","n":N,"e":"AQAB","alg":"RS256","kid":"r"},
            {"kty":"EC","crv":"P-256","x":EC_X,"y":EC_Y,"use":"sig","kid":"e"},
            {"kty":"OKP","crv":"Ed25519","x":ED_X,"kid":"o","key_ops":["verify"]},
        ]));
        let set = set.ok().unwrap();
        assert_eq!(set.names(), ["r (RS256)", "e (ES256)", "o (EdDSA)"]);
        for (kid, own) in [("r", JwtAlgorithm::Rs256), ("e", JwtAlgorithm::Es256)] {
            for algorithm in JwtAlgorithm::ALL {
                match set.pick(Some(kid), algorithm) {
                    Pick::Key(_) => assert_eq!(algorithm, own),
                    Pick::Wrong => assert_ne!(algorithm, own),
                    Pick::Unknown => panic!("{kid} is there"),
                }
            }
        }
        assert!(matches!(
            set.pick(Some("x"), JwtAlgorithm::Rs256),
            Pick::Unknown
        ));
        assert!(matches!(set.pick(None, JwtAlgorithm::Rs256), Pick::Key(_)));
        assert!(matches!(set.pick(None, JwtAlgorithm::Hs256), Pick::Wrong));
    }

    #[test]
    fn one_bad_key_does_not_cost_the_others() {
        let set = parse(&json!([
            {"kty":"RSA","n":N,"e":"AQAB","use":"enc","alg":"RSA-OAEP","kid":"1"},
            {"kty":"EC","crv":"P-521","x":EC_X,"y":EC_Y,"kid":"2"},
            {"kty":"EC","crv":"P-256","x":EC_X,"y":EC_Y,"kid":"3"},
            {"kty":"EC","crv":"P-256","x":EC_Y,"y":EC_X,"kid":"3"},
            "no key",
            {"kty":7},
        ]));
        let set = set.ok().unwrap();
        assert_eq!(set.names(), ["3 (ES256)"]);
        assert_eq!(set.left_out.len(), 5, "{:?}", set.left_out);
        assert!(set.left_out[2].contains("same kid"), "{:?}", set.left_out);
    }

    #[test]
    fn keys_that_could_be_misused_are_left_out() {
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75";
        assert!(refusal(&json!({"kty":"oct","k":secret})).contains("others can read"));
        assert!(refusal(&json!({"kty":"RSA","n":N,"e":"AQAB","alg":"HS256"})).contains("alg"));
        assert!(refusal(&json!({"kty":"RSA","n":"AQAB","e":"AQAB"})).contains("2048"));
        assert!(refusal(&json!({"kty":"RSA","e":"AQAB"})).contains("missing"));
        assert!(refusal(&json!({"kty":"RSA","n":"+/","e":"AQAB"})).contains("base64url"));
        assert!(
            refusal(&json!({"kty":"RSA","n":N,"e":"AQAB","key_ops":["sign"]})).contains("key_ops")
        );
        assert!(refusal(&json!({"kty":"OKP","crv":"Ed25519","x":"AAAA"})).contains("32 bytes"));
        assert!(
            refusal(&json!({"kty":"EC","crv":"P-256","x":"AAAA","y":EC_Y})).contains("32 bytes")
        );
        let short = json!({"keys":[{"kty":"oct","k":"AAAA"}]}).to_string();
        let private = KeySet::parse(short.as_bytes(), ALL, true);
        assert!(matches!(private, Err(JwksError::NoUsableKey { .. })));
        let rsa = json!({"keys":[{"kty":"RSA","n":N,"e":"AQAB"}]}).to_string();
        let only_ec = KeySet::parse(rsa.as_bytes(), &[JwtAlgorithm::Es256], false);
        assert!(matches!(only_ec, Err(JwksError::NoUsableKey { .. })));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
            let read = KeySet::parse(text.as_bytes(), ALL, false);
            assert!(matches!(read, Err(JwksError::NotASet)), "{text}");
        }
        let many: Vec<Value> = vec![json!({}); 101];
        assert!(matches!(
            parse(&many.into()),
            Err(JwksError::TooMany { keys: 101 })
        ));
    }
}
