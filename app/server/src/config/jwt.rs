//! Bearer tokens that others sign (JWT).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ratebox_gateway::{JwtAlgorithm, JwtSettings};
use ratebox_kit::Secret;
use serde::Deserialize;

use super::store::secret;

/// Fewer bytes of a secret can be guessed (RFC 7518 §3.2).
const SECRET_MIN_BYTES: usize = 32;

/// Bearer tokens that others sign (JWT).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtConfig {
    /// Who signs them.
    pub issuer: String,
    /// Whom they are for.
    pub audience: Vec<String>,
    /// Address of the keys.
    pub jwks_url: String,
    /// File of the keys.
    pub jwks_file: String,
    /// Secret for HS256.
    pub hs256_secret: Secret,
    /// File that holds the secret instead.
    pub hs256_secret_file: String,
    /// Algorithms that are taken.
    pub algorithms: Vec<String>,
    /// Seconds that clocks may differ.
    pub leeway_s: u64,
    /// Claim that names the account.
    pub owner_claim: String,
    /// What stands before it.
    pub owner_prefix: String,
    /// Claims that may hold scopes.
    pub scope_claims: Vec<String>,
    /// Whether the scope admin counts.
    pub allow_admin: bool,
    /// Seconds that the keys are used.
    pub jwks_cache_s: u64,
    /// Seconds after that.
    pub jwks_stale_s: u64,
    /// Seconds between two fetches at least.
    pub jwks_refetch_s: u64,
    /// Milliseconds to wait for the keys.
    pub jwks_timeout_ms: u64,
    /// Whether the address may be plain HTTP.
    pub jwks_plain_http: bool,
    /// Bytes of a token at most.
    pub token_max_bytes: usize,
}

// === impl JwtConfig ===

impl JwtConfig {
    /// Whether JWTs are taken.
    pub fn is_on(&self) -> bool {
        let named = [&self.jwks_url, &self.jwks_file, &self.hs256_secret_file];
        named.iter().any(|it| !it.is_empty()) || !self.hs256_secret.is_empty()
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// With a sentence that says what to change.
    pub(super) fn check(&self) -> Result<()> {
        self.algorithms()?;
        let within = [
            ("leeway_s", self.leeway_s, 0, 300),
            ("jwks_cache_s", self.jwks_cache_s, 1, 86_400),
            ("jwks_stale_s", self.jwks_stale_s, 0, 604_800),
            ("jwks_refetch_s", self.jwks_refetch_s, 1, 3600),
            ("jwks_timeout_ms", self.jwks_timeout_ms, 1, 60_000),
            ("token_max_bytes", self.token_max_bytes as u64, 256, 16_384),
        ];
        for (key, value, least, most) in within {
            ensure!(
                (least..=most).contains(&value),
                "jwt.{key} ({value}) must be from {least} to {most}"
            );
        }
        if !self.is_on() {
            ensure!(
                self.issuer.is_empty() && self.audience.is_empty(),
                "jwt.issuer and jwt.audience need keys: set jwt.jwks_url, jwt.jwks_file or \
                 jwt.hs256_secret_file"
            );
            return Ok(());
        }
        ensure!(
            !self.issuer.is_empty() && !self.audience.is_empty(),
            "jwt.issuer and jwt.audience must be set: a token of another issuer, or for another \
             service, would be taken otherwise"
        );
        ensure!(
            self.jwks_url.is_empty() || self.jwks_file.is_empty(),
            "set either jwt.jwks_url or jwt.jwks_file, not both"
        );
        ensure!(
            !self.owner_claim.is_empty(),
            "jwt.owner_claim must name the claim of the account, such as sub"
        );
        Ok(())
    }

    /// The algorithms as the gateway knows them.
    ///
    /// # Errors
    /// When one is not known, or there is none.
    pub fn algorithms(&self) -> Result<Vec<JwtAlgorithm>> {
        let known = || JwtAlgorithm::ALL.map(JwtAlgorithm::as_str).join(", ");
        let of = |word: &String| {
            JwtAlgorithm::from_word(word)
                .with_context(|| format!("jwt.algorithms: {word:?} is none of {}", known()))
        };
        ensure!(
            !self.algorithms.is_empty(),
            "jwt.algorithms must name some of {}",
            known()
        );
        self.algorithms.iter().map(of).collect()
    }

    /// The gateway's settings, without the set of keys.
    ///
    /// # Errors
    /// When the secret cannot be read or is too short.
    pub fn settings(&self) -> Result<JwtSettings> {
        let file = &self.hs256_secret_file;
        let secret = secret("jwt.hs256_secret_file", &self.hs256_secret, file)?;
        let algorithms = self.algorithms()?;
        if let Some(secret) = &secret {
            ensure!(
                secret.reveal().len() >= SECRET_MIN_BYTES,
                "jwt.hs256_secret has fewer than {SECRET_MIN_BYTES} bytes and could be guessed; make \
                 one with `openssl rand -base64 48`"
            );
            ensure!(
                algorithms.contains(&JwtAlgorithm::Hs256),
                "jwt.hs256_secret is set and jwt.algorithms lacks HS256; remove one or add the other"
            );
        }
        ensure!(
            secret.is_some() || file.is_empty(),
            "jwt.hs256_secret_file names an empty file"
        );
        Ok(JwtSettings {
            issuer: self.issuer.clone(),
            audiences: self.audience.clone(),
            jwks: None,
            secret,
            algorithms,
            leeway: Duration::from_secs(self.leeway_s),
            owner_claim: self.owner_claim.clone(),
            owner_prefix: self.owner_prefix.clone(),
            scope_claims: self.scope_claims.clone(),
            allow_admin: self.allow_admin,
            keys_max_age: Duration::from_secs(self.jwks_cache_s),
            keys_stale: Duration::from_secs(self.jwks_stale_s),
            refetch_min: Duration::from_secs(self.jwks_refetch_s),
            fetch_timeout: Duration::from_millis(self.jwks_timeout_ms),
            token_max_bytes: self.token_max_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources, load, show};

    const SECRET: (&str, &str) = ("HS256_SECRET", "0123456789abcdef0123456789abcdef");
    const ISSUER: (&str, &str) = ("ISSUER", "https://issuer.example");
    const AUDIENCE: (&str, &str) = ("AUDIENCE", "ratebox, other");

    fn sources(pairs: &[(&str, &str)]) -> Sources {
        let env = pairs
            .iter()
            .map(|(key, value)| (format!("RATEBOX_JWT__{key}"), (*value).to_owned()));
        Sources {
            env: env.collect(),
            ..Sources::default()
        }
    }

    fn config(pairs: &[(&str, &str)]) -> Result<Config> {
        load(&sources(pairs))
    }

    fn refusal(pairs: &[(&str, &str)]) -> String {
        let settings = config(pairs).and_then(|config| config.jwt.settings());
        settings
            .err()
            .map_or_else(String::new, |error| format!("{error:#}"))
    }

    #[test]
    fn it_is_off_by_default_and_the_defaults_are_those_of_the_gateway() {
        let config = config(&[]).unwrap();
        assert!(!config.jwt.is_on());
        let settings = config.jwt.settings().unwrap();
        assert_eq!(
            format!("{settings:?}"),
            format!("{:?}", JwtSettings::default())
        );
    }

    #[test]
    fn a_secret_an_issuer_and_an_audience_are_enough() {
        let config = config(&[SECRET, ISSUER, AUDIENCE]).unwrap();
        assert!(config.jwt.is_on());
        let settings = config.jwt.settings().unwrap();
        assert_eq!(settings.audiences, ["ratebox", "other"]);
        let shown = show(&sources(&[SECRET, ISSUER, AUDIENCE])).unwrap();
        assert!(shown.contains("hs256_secret = \"***\"") && !shown.contains(SECRET.1));
    }

    #[test]
    fn what_would_let_strangers_in_is_refused_with_a_sentence() {
        assert!(refusal(&[SECRET]).contains("jwt.issuer and jwt.audience must be set"));
        assert!(refusal(&[SECRET, ISSUER]).contains("jwt.audience"));
        assert!(refusal(&[ISSUER]).contains("need keys"));
        let short = ("HS256_SECRET", "short");
        assert!(refusal(&[short, ISSUER, AUDIENCE]).contains("32 bytes"));
        let none = ("ALGORITHMS", "RS256,none");
        assert!(refusal(&[none]).contains("\"none\" is none of"));
        assert!(refusal(&[("ALGORITHMS", "")]).contains("must name some"));
        let without = ("ALGORITHMS", "RS256");
        assert!(refusal(&[SECRET, ISSUER, AUDIENCE, without]).contains("lacks HS256"));
        let (url, file) = (("JWKS_URL", "https://x.example/"), ("JWKS_FILE", "x"));
        assert!(refusal(&[url, file, ISSUER, AUDIENCE]).contains("not both"));
        for (key, value) in [
            ("LEEWAY_S", "301"),
            ("JWKS_CACHE_S", "0"),
            ("JWKS_REFETCH_S", "0"),
            ("TOKEN_MAX_BYTES", "16385"),
        ] {
            let said = refusal(&[(key, value)]);
            assert!(said.contains(&key.to_lowercase()), "{said}");
        }
        let gone = ("HS256_SECRET_FILE", "/no/such/file");
        assert!(refusal(&[gone, ISSUER, AUDIENCE]).contains("cannot be read"));
    }
}
