//! An issuer of JWTs: keys that live as long as a test, and tokens signed with them, good and bad.
//!
//! Signatures are made by `ring` and put together here, so that what checks them is tested against
//! something else than itself.

use std::process::Command;

use anyhow::{Result, anyhow, bail};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use ring::{hmac, rsa};
use serde_json::{Value, json};

use crate::tools;

/// A key of an issuer.
#[derive(Debug)]
pub struct JwtKey {
    kid: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Hs256(Vec<u8>),
    Rs256(Box<RsaKeyPair>),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

// === impl JwtKey ===

impl JwtKey {
    /// A shared secret.
    pub fn hs256(kid: &str, secret: &[u8]) -> Self {
        Self::of(kid, Pair::Hs256(secret.to_vec()))
    }

    /// A new RSA key of so many bits.
    ///
    /// # Errors
    /// When `openssl` is missing (the message says what to install) or fails.
    pub fn rs256(kid: &str, bits: u32) -> Result<Self> {
        let output = Command::new(tools::openssl()?)
            .args(["genpkey", "-algorithm", "RSA", "-outform", "DER"])
            .args(["-pkeyopt", &format!("rsa_keygen_bits:{bits}")])
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("openssl could not make a key: {said}");
        }
        // Versions differ in the form that they write.
        let (pkcs8, pkcs1) = (RsaKeyPair::from_pkcs8, RsaKeyPair::from_der);
        let pair = pkcs8(&output.stdout).or_else(|_| pkcs1(&output.stdout));
        let pair = pair.map_err(|why| anyhow!("openssl wrote another form: {why}"))?;
        Ok(Self::of(kid, Pair::Rs256(Box::new(pair))))
    }

    /// A new key of P-256.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn es256(kid: &str) -> Result<Self> {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(made)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).map_err(made)?;
        Ok(Self::of(kid, Pair::Es256(pair)))
    }

    /// A new key of Ed25519.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn eddsa(kid: &str) -> Result<Self> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(made)?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(made)?;
        Ok(Self::of(kid, Pair::EdDsa(pair)))
    }

    fn of(kid: &str, pair: Pair) -> Self {
        Self {
            kid: kid.to_owned(),
            pair,
        }
    }

    /// Its algorithm's word.
    pub fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Hs256(_) => "HS256",
            Pair::Rs256(_) => "RS256",
            Pair::Es256(_) => "ES256",
            Pair::EdDsa(_) => "EdDSA",
        }
    }

    /// The public half as a JWK; for a secret, all of it.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Hs256(secret) => json!({ "kty": "oct", "k": base64url(secret) }),
            Pair::Rs256(pair) => {
                let public = rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": base64url(&public.n), "e": base64url(&public.e) })
            }
            Pair::Es256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y) })
            }
            Pair::EdDsa(pair) => {
                let x = base64url(pair.public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "x": x })
            }
        };
        jwk["kid"] = self.kid.clone().into();
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm().into();
        jwk
    }

    /// A set of these keys.
    pub fn set(keys: &[&Self]) -> Value {
        json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
    }

    /// A token with these claims and the usual head.
    pub fn sign(&self, claims: &Value) -> String {
        let head = json!({ "alg": self.algorithm(), "kid": self.kid, "typ": "JWT" });
        self.sign_with(&head, claims)
    }

    /// A token with a head of one's own, whatever it says: the signature is this key's.
    ///
    /// # Panics
    /// When the system has no randomness.
    pub fn sign_with(&self, head: &Value, claims: &Value) -> String {
        let text = |it: &Value| base64url(it.to_string().as_bytes());
        let message = format!("{}.{}", text(head), text(claims));
        let signature = self.signature(message.as_bytes());
        format!("{message}.{}", base64url(&signature))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Hs256(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("the system has randomness");
                signature
            }
            Pair::Es256(pair) => {
                let signature = pair.sign(&random, message);
                signature
                    .expect("the system has randomness")
                    .as_ref()
                    .to_vec()
            }
            Pair::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

fn made(why: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a key could not be made: {why}")
}

/// Base64url without padding (RFC 4648 §5).
pub fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let mut all = [0; 4];
        all[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(all);
        for at in 0..=three.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * at)) as usize & 63]));
        }
    }
    text
}
