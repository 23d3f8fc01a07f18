//! The claims of a token whose signature is right: read strictly, each of the type that RFC 7519
//! gives it, and turned into a caller.

use ratebox_kit::Timestamp;
use serde_json::{Map, Value};

use crate::auth::Caller;
use crate::auth::scope::Scopes;
use crate::settings::JwtSettings;

/// Longest name of an account.
const OWNER_MAX_BYTES: usize = 200;

/// The caller that the claims stand for; `None` when they are not for us, not yet valid, or not
/// what they should be. One that has expired is told by [`Caller::expires_at`].
pub(super) fn caller(
    claims: &Map<String, Value>,
    settings: &JwtSettings,
    now: Timestamp,
) -> Option<Caller> {
    let leeway_ms = i64::try_from(settings.leeway.as_millis()).ok()?;
    let is_ours = claims.get("iss")?.as_str()? == settings.issuer
        && is_for(claims.get("aud")?, &settings.audiences);
    let expires_ms = milliseconds(claims.get("exp")?)?;
    let begins_ms = match claims.get("nbf") {
        Some(nbf) => milliseconds(nbf)?,
        None => i64::MIN,
    };
    if !is_ours || now.as_millisecond().saturating_add(leeway_ms) < begins_ms {
        return None;
    }
    let subject = subject(claims.get(&settings.owner_claim)?)?;
    let end = Timestamp::from_millisecond(expires_ms.saturating_add(leeway_ms));
    Some(Caller {
        owner: format!("{}{subject}", settings.owner_prefix),
        // Limits of tokens are counted by subject, or each new token would begin anew. No API token
        // has a colon in its id.
        token_id: format!("jwt:{subject}"),
        profile: None,
        limit_per_minute: None,
        scopes: scopes(claims, settings),
        secret_hash: [0; 32],
        live: false,
        expires_at: Some(end.unwrap_or(Timestamp::MAX)),
        revoked: false,
    })
}

fn is_for(aud: &Value, audiences: &[String]) -> bool {
    let is_one = |it: &Value| {
        let name = it.as_str();
        audiences.iter().any(|ours| Some(ours.as_str()) == name)
    };
    match aud {
        Value::Array(all) => all.iter().all(Value::is_string) && all.iter().any(is_one),
        one => is_one(one),
    }
}

/// A NumericDate after 1970, which may have a fraction.
fn milliseconds(date: &Value) -> Option<i64> {
    let seconds = date.as_f64().filter(|it| it.is_finite() && *it >= 0.0)?;
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    let ms = (seconds * 1000.0) as i64;
    Some(ms)
}

/// A text, or a whole number as some issuers write it.
fn subject(claim: &Value) -> Option<String> {
    let text = match claim {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_u64() || number.is_i64() => number.to_string(),
        _ => return None,
    };
    let is_plain = !text.chars().any(char::is_control);
    ((1..=OWNER_MAX_BYTES).contains(&text.len()) && is_plain).then_some(text)
}

/// One text with blanks in between (RFC 8693), or a list.
fn scopes(claims: &Map<String, Value>, settings: &JwtSettings) -> Scopes {
    let mut named = settings.scope_claims.iter();
    let words: Vec<String> = match named.find_map(|name| claims.get(name)) {
        Some(Value::String(text)) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(list)) => {
            let texts = list.iter().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    let scopes = Scopes::of(&words);
    match settings.allow_admin {
        true => scopes,
        false => scopes.without_admin(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::auth::Scope;

    const NOW: i64 = 1_700_000_000;

    fn settings() -> JwtSettings {
        JwtSettings {
            issuer: "https://issuer.example".to_owned(),
            audiences: vec!["ratebox".to_owned(), "other".to_owned()],
            leeway: Duration::from_secs(10),
            ..JwtSettings::default()
        }
    }

    fn good() -> Value {
        json!({
            "iss": "https://issuer.example", "aud": "ratebox", "sub": "ann", "exp": NOW + 60,
            "scope": "find validation:write",
        })
    }

    fn read(claims: &Value, settings: &JwtSettings) -> Option<Caller> {
        let now = Timestamp::from_second(NOW).unwrap();
        caller(claims.as_object().unwrap(), settings, now)
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    #[test]
    fn claims_become_a_caller() {
        let caller = read(&good(), &settings()).unwrap();
        assert_eq!((&*caller.owner, &*caller.token_id), ("jwt:ann", "jwt:ann"));
        assert_eq!(caller.expires_at.unwrap().as_second(), NOW + 70);
        assert!(caller.scopes.has(Scope::ImportRead) && caller.scopes.has(Scope::ValidationWrite));
        assert!(!caller.scopes.has(Scope::ImportWrite));
        let bare = JwtSettings {
            owner_prefix: String::new(),
            ..settings()
        };
        assert_eq!(read(&good(), &bare).unwrap().owner, "ann");
        assert_eq!(
            read(&with("sub", json!(17)), &settings()).unwrap().owner,
            "jwt:17"
        );
    }

    #[test]
    fn required_claims_must_be_there_and_of_their_type() {
        for name in ["iss", "aud", "exp", "sub"] {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove(name);
            assert!(read(&claims, &settings()).is_none(), "{name} is missing");
            for value in [json!(null), json!({}), json!([]), json!(true), json!("")] {
                let claims = with(name, value.clone());
                assert!(read(&claims, &settings()).is_none(), "{name} is {value}");
            }
        }
        let wrong = [
            ("iss", json!("https://issuer.example/")),
            ("iss", json!(["https://issuer.example"])),
            ("aud", json!("Ratebox")),
            ("aud", json!(["x", "y"])),
            ("aud", json!(["ratebox", 7])),
            ("exp", json!("1800000000")),
            ("nbf", json!("0")),
            ("nbf", json!(NOW + 11)),
            ("sub", json!("a\nb")),
            ("sub", json!("a\u{0}b")),
            ("sub", json!("x".repeat(201))),
            ("sub", json!(1.5)),
        ];
        for (name, value) in wrong {
            let claims = with(name, value.clone());
            assert!(read(&claims, &settings()).is_none(), "{name} is {value}");
        }
    }

    #[test]
    fn times_may_have_fractions_and_lie_far_away() {
        let end = |exp: Value| {
            let caller = read(&with("exp", exp), &settings()).unwrap();
            caller.expires_at.unwrap()
        };
        assert_eq!(
            end(json!(NOW as f64 + 0.5)).as_millisecond(),
            NOW * 1000 + 10_500
        );
        assert_eq!(end(json!(1e300)), Timestamp::MAX);
        assert_eq!(end(json!(0)).as_second(), 10);
        for early in [json!(-1), json!(-1e300)] {
            assert!(
                read(&with("exp", early.clone()), &settings()).is_none(),
                "{early}"
            );
        }
        assert!(read(&with("nbf", json!(NOW + 10)), &settings()).is_some());
        assert!(read(&with("aud", json!(["x", "other"])), &settings()).is_some());
    }

    #[test]
    fn scopes_stand_in_a_text_or_a_list_and_admin_needs_a_setting() {
        let scopes =
            |claims: &Value, settings: &JwtSettings| read(claims, settings).unwrap().scopes;
        let mut listed = with("scopes", json!(["api::importer.importer.create", 7]));
        listed.as_object_mut().unwrap().remove("scope");
        assert!(scopes(&listed, &settings()).has(Scope::ImportWrite));
        let none = with("scope", json!({"find": true}));
        assert!(!scopes(&none, &settings()).has(Scope::ValidationRead));
        let admin = with("scope", json!("admin monitoring:read"));
        let ours = scopes(&admin, &settings());
        assert!(ours.has(Scope::MonitoringRead) && !ours.has(Scope::Admin));
        assert!(!ours.has(Scope::ValidationRead));
        let trusting = JwtSettings {
            allow_admin: true,
            ..settings()
        };
        assert!(scopes(&admin, &trusting).has(Scope::Admin));
    }
}
