//! The keys of JWTs, as the gateway would read them.

use super::finding::Finding;
use crate::config::Config;
use crate::wiring::jwt;

const ABOUT: &str = "jwt";

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    if !config.jwt.is_on() {
        return Vec::new();
    }
    if let Err(error) = jwt::settings(&config.jwt) {
        return vec![Finding::fail(ABOUT, format!("{error:#}")).advise("mend the section [jwt]")];
    }
    let mut findings = match jwt::inspect(&config.jwt).await {
        Ok(None) => vec![Finding::ok(
            ABOUT,
            "tokens are checked with a secret (HS256)",
        )],
        Ok(Some(report)) => {
            let usable = report.usable.join(", ");
            let mut findings = vec![Finding::ok(
                ABOUT,
                format!("tokens are checked with: {usable}"),
            )];
            findings.extend(report.left_out.iter().map(|why| {
                let advice = "nothing, unless tokens are signed with it";
                Finding::warn(ABOUT, format!("not used: {why}")).advise(advice)
            }));
            findings
        }
        Err(error) => {
            let advice = "every JWT is answered 503 or 401 until the keys can be read; look at the \
                          address or the file, and at what it holds (RFC 7517)";
            vec![Finding::fail(ABOUT, format!("{error:#}")).advise(advice)]
        }
    };
    findings.extend(accounts(config));
    findings
}

/// Who shares accounts with API tokens.
fn accounts(config: &Config) -> Option<Finding> {
    let says = "jwt.owner_prefix is empty: a subject is the owner of API tokens by the same name, and \
                of bus.foreign_owner's requests if it is named so";
    let advice = "keep it so only if one authority names both";
    let is_shared = config.jwt.owner_prefix.is_empty();
    is_shared.then(|| Finding::warn(ABOUT, says).advise(advice))
}
