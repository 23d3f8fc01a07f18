//! `ratebox token create|list|rotate|revoke`: API tokens.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, Subcommand, value_parser};
use ratebox_intake::Profile;
use ratebox_kit::{Clock, Secret, Timestamp};
use ratebox_store::{NewToken, Store, Token};
use serde_json::{Value, json};

use crate::cli::{Ended, ServerArgs};
use crate::config::Config;
use crate::out::{hint, say};
use crate::wiring::operator::{self, IfMissing};

/// What to do with tokens.
#[derive(Clone, Debug, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    pub servers: ServerArgs,
    /// Name in the audit log; the user of this session when it is left out.
    #[arg(long = "as", global = true, value_name = "NAME")]
    actor: Option<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Makes a token and prints it, this once.
    Create(CreateArgs),
    /// Lists tokens, without their secrets: active, expired or revoked.
    List,
    /// Makes a token with the same rights and revokes the old one at once.
    Rotate {
        /// Public part of the token.
        id: String,
    },
    /// Refuses a token from now on (within the gateways' token_cache_ms).
    Revoke {
        /// Public part of the token.
        id: String,
    },
}

#[derive(Clone, Debug, Args)]
struct CreateArgs {
    /// Account that the token acts for.
    #[arg(long, value_parser = label)]
    owner: String,
    /// A name for people.
    #[arg(long, value_parser = label)]
    name: String,
    /// What it may do; repeat for several: validation:read, validation:write, import:read,
    /// import:write, monitoring:read, monitoring:write, admin.
    #[arg(long = "scope", required = true, value_parser = scope)]
    scopes: Vec<String>,
    /// Rules for its requests: classic, standard or strict.
    #[arg(long, value_parser = profile)]
    profile: Option<String>,
    /// Its own limit a minute, on every route.
    #[arg(long, value_parser = value_parser!(u32).range(1..))]
    limit_per_minute: Option<u32>,
    /// Days until it ends.
    #[arg(long, value_parser = value_parser!(u64).range(1..=36_500))]
    expires_in_days: Option<u64>,
    /// A test token (rb_test_…).
    #[arg(long)]
    test: bool,
}

/// Bytes of an owner or a name at most; as many as the account of a JWT may have.
const LABEL_MAX: usize = 200;

/// A text that can be told from others in a list.
fn label(text: &str) -> Result<String, String> {
    let is_label = !text.trim().is_empty() && !text.contains(char::is_control);
    if is_label && text.len() <= LABEL_MAX {
        return Ok(text.to_owned());
    }
    Err(format!(
        "must be a text of 1 to {LABEL_MAX} bytes without control characters"
    ))
}

/// Ours, and the predecessor's words for them; the gateway reads all of these.
const SCOPES: [&str; 17] = [
    "validation:read",
    "validation:write",
    "import:read",
    "import:write",
    "monitoring:read",
    "monitoring:write",
    "admin",
    "find",
    "create",
    "validation.find",
    "validation.create",
    "api::validation.validation.find",
    "api::validation.validation.create",
    "importer.find",
    "importer.create",
    "api::importer.importer.find",
    "api::importer.importer.create",
];

fn scope(word: &str) -> Result<String, String> {
    match SCOPES.contains(&word) {
        true => Ok(word.to_owned()),
        false => Err(format!("must be one of {}", SCOPES.join(", "))),
    }
}

fn profile(word: &str) -> Result<String, String> {
    match Profile::from_word(word) {
        Some(_) => Ok(word.to_owned()),
        None => Err(format!("must be one of {}", Profile::WORDS)),
    }
}

/// Does what is asked.
///
/// # Errors
/// When the store cannot be reached, or there is no such token.
pub async fn run(config: Config, args: TokenArgs, json: bool) -> Result<Ended> {
    let if_missing = match args.what {
        What::Create(_) => IfMissing::Make,
        What::List | What::Rotate { .. } | What::Revoke { .. } => IfMissing::Refuse,
    };
    let store = operator::store(&config, if_missing)?;
    store
        .db()
        .ping()
        .await
        .context("the store cannot be reached")?;
    let actor = super::actor(args.actor);
    let done = act(&store, &actor, args.what, json).await;
    done.map_err(|error| match error.downcast_ref() {
        Some(cause) if operator::lacks_tables(cause) => error.context(operator::LACKS_TABLES),
        _ => error,
    })
}

async fn act(store: &Store, actor: &str, what: What, json: bool) -> Result<Ended> {
    let note = async |action, subject: &str| {
        super::note(store, actor, action, subject.to_owned(), None).await
    };
    match what {
        What::Create(args) => {
            let new = new(args)?;
            note("token.create", &format!("{} for {}", new.name, new.owner)).await?;
            let (token, secret) = store.create_token(new).await?;
            show_new(&token, &secret, json)?;
        }
        What::List => list(&store.tokens().await?, json),
        What::Rotate { id } => {
            note("token.rotate", &id).await?;
            rotate(store, &id, json).await?;
        }
        What::Revoke { id } => {
            note("token.revoke", &id).await?;
            if !store.revoke_token(&id).await? {
                bail!("there is no token {id} that could be revoked; see `ratebox token list`");
            }
            if json {
                say!("{}", json!({ "id": id, "revoked": true }));
            } else {
                say!("{id} is revoked");
            }
        }
    }
    Ok(Ended::Well)
}

fn new(args: CreateArgs) -> Result<NewToken> {
    let expires_at = match args.expires_in_days {
        Some(days) => {
            let length = Duration::from_secs(days.saturating_mul(86_400));
            Some(
                Clock::system()
                    .now()
                    .checked_add(length)
                    .context("--expires-in-days")?,
            )
        }
        None => None,
    };
    Ok(NewToken {
        owner: args.owner,
        name: args.name,
        scopes: args.scopes,
        profile: args.profile,
        limit_per_minute: args.limit_per_minute,
        live: !args.test,
        expires_at,
    })
}

async fn rotate(store: &Store, id: &str, json: bool) -> Result<()> {
    let old = store
        .token(id)
        .await?
        .with_context(|| format!("there is no token {id}; see `ratebox token list`"))?;
    let now = Clock::system().now();
    // Its successor would give back what somebody took away, or what was meant to end.
    ensure!(
        old.is_valid(now),
        "token {id} is {}; `ratebox token create` makes a new one",
        state(&old, now)
    );
    let new = NewToken {
        owner: old.owner,
        name: old.name,
        scopes: old.scopes,
        profile: old.profile,
        limit_per_minute: old.limit_per_minute,
        live: old.live,
        expires_at: old.expires_at,
    };
    let (token, secret) = store.create_token(new).await?;
    show_new(&token, &secret, json).with_context(|| format!("{id} is still valid"))?;
    store.revoke_token(id).await?;
    Ok(())
}

/// # Errors
/// When the output cannot be written: then nobody knows the secret.
fn show_new(token: &Token, secret: &Secret, json: bool) -> Result<()> {
    if json {
        let mut shown = describe(token, Clock::system().now());
        if let Value::Object(fields) = &mut shown {
            fields.insert("token".to_owned(), secret.reveal().into());
        }
        say!("{shown}");
    } else {
        say!("{}", secret.reveal());
        hint!(
            "keep it: it is shown this once ({} for {})",
            token.id,
            token.owner
        );
    }
    crate::out::ended().map_err(|why| {
        let id = &token.id;
        anyhow!("{why}; nobody knows the new token: `ratebox token revoke {id}`")
    })
}

fn list(tokens: &[Token], json: bool) {
    let now = Clock::system().now();
    if json {
        let tokens = tokens.iter().map(|token| describe(token, now));
        say!("{}", tokens.collect::<Value>());
        return;
    }
    say!(
        "{:<18} {:<16} {:<20} {:<8} scopes",
        "id",
        "owner",
        "name",
        "state"
    );
    for token in tokens {
        let state = state(token, now);
        let scopes = token.scopes.join(" ");
        say!(
            "{:<18} {:<16} {:<20} {state:<8} {scopes}",
            token.id,
            token.owner,
            token.name
        );
    }
}

/// What has become of a token: who takes it away has the last word.
fn state(token: &Token, now: Timestamp) -> &'static str {
    match token.revoked_at {
        Some(_) => "revoked",
        None if token.is_valid(now) => "active",
        None => "expired",
    }
}

fn describe(token: &Token, now: Timestamp) -> Value {
    json!({
        "id": token.id,
        "owner": token.owner,
        "name": token.name,
        "state": state(token, now),
        "scopes": token.scopes,
        "profile": token.profile,
        "limit_per_minute": token.limit_per_minute,
        "live": token.live,
        "created_at": token.created_at.to_string(),
        "expires_at": token.expires_at.map(|it| it.to_string()),
        "revoked_at": token.revoked_at.map(|it| it.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_predecessor_are_taken_as_scopes() {
        for word in ["find", "validation.find", "api::importer.importer.create"] {
            assert_eq!(scope(word), Ok(word.to_owned()));
        }
        assert!(scope("validation.delete").is_err());
    }

    #[test]
    fn a_token_is_active_or_expired_or_revoked() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let now = at("2026-03-04T05:06:07Z");
        let (before, after) = (at("2026-03-04T05:06:06Z"), at("2026-03-04T05:06:08Z"));
        for (expires_at, revoked_at, expected) in [
            (None, None, "active"),
            (Some(after), None, "active"),
            (Some(now), None, "expired"),
            (Some(before), None, "expired"),
            (None, Some(before), "revoked"),
            (Some(before), Some(before), "revoked"),
        ] {
            let token = Token {
                id: "0011223344556677".to_owned(),
                owner: "ann".to_owned(),
                name: "test".to_owned(),
                scopes: vec!["find".to_owned()],
                profile: None,
                limit_per_minute: None,
                live: true,
                secret_hash: bytes::Bytes::new(),
                created_at: before,
                expires_at,
                revoked_at,
            };
            assert_eq!(describe(&token, now)["state"], expected);
        }
    }
}
