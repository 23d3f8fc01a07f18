//! Bearer tokens that others sign (JWT): what is expected of one, and where the keys come from.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_kit::{PortError, Secret};

/// How a JWT may be signed. The key decides it; a token only has to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256: whoever checks can sign as well.
    Hs256,
    /// RSA PKCS#1 v1.5 with SHA-256, 2048 to 8192 bits.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rs256, Self::Es256, Self::EdDsa, Self::Hs256];

    /// The word in headers and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of a word, exactly as it is registered; `None` for all others, `none` too.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// Where a set of public keys comes from: a file, an address.
#[async_trait]
pub trait JwksSource: std::fmt::Debug + Send + Sync {
    /// The set as it stands now: JSON of RFC 7517. Ends in time by itself.
    async fn fetch(&self) -> Result<Bytes, PortError>;

    /// Whether nobody else can read it, so that it may hold secrets (`kty` = `oct`).
    fn is_private(&self) -> bool;
}

/// What is expected of a JWT, and where the keys come from.
#[derive(Clone, Debug)]
pub struct JwtSettings {
    /// Exactly this `iss`.
    pub issuer: String,
    /// One of these in `aud`.
    pub audiences: Vec<String>,
    /// The set of keys.
    pub jwks: Option<Arc<dyn JwksSource>>,
    /// A secret for HS256, at least 32 bytes.
    pub secret: Option<Secret>,
    /// Keys of other algorithms are left out.
    pub algorithms: Vec<JwtAlgorithm>,
    /// How far the issuer's clock may be off, for `exp` and `nbf`.
    pub leeway: Duration,
    /// The claim that names the account.
    pub owner_claim: String,
    /// Stands before the claim in the owner's name, so that no account of an API token is meant.
    pub owner_prefix: String,
    /// Claims that may hold the scopes; the first that is there counts.
    pub scope_claims: Vec<String>,
    /// Whether the scope `admin` of a JWT counts.
    pub allow_admin: bool,
    /// The set is fetched again after this.
    pub keys_max_age: Duration,
    /// So long after that the set stands in for one that cannot be fetched.
    pub keys_stale: Duration,
    /// Least time between two fetches for keys that nobody knows, and after a failed one.
    pub refetch_min: Duration,
    /// Longest wait for the set.
    pub fetch_timeout: Duration,
    /// Longer tokens are refused unread.
    pub token_max_bytes: usize,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            jwks: None,
            secret: None,
            algorithms: JwtAlgorithm::ALL.to_vec(),
            leeway: Duration::from_secs(30),
            owner_claim: "sub".to_owned(),
            owner_prefix: "jwt:".to_owned(),
            scope_claims: ["scope", "scopes", "scp"].map(str::to_owned).to_vec(),
            allow_admin: false,
            keys_max_age: Duration::from_secs(300),
            keys_stale: Duration::from_secs(3600),
            refetch_min: Duration::from_secs(10),
            fetch_timeout: Duration::from_secs(5),
            token_max_bytes: 8192,
        }
    }
}
