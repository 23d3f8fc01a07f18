//! The cache of look-ups: on the cache's server, else on the bus' server, else in this process; and
//! the board on which gateways say what they look into, so that workers know whom to tell. And the
//! limiter that gateways share, on the same server.

mod board;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ratebox_cache::{Cache, Limiter, Limits, MemoryLimits, Tier, ValkeyTier, WhenAway};
use ratebox_gateway::{LOOKUP_CACHE, LookupDeps, LookupWatch};
use ratebox_kit::Quota;
use ratebox_valkey::{Marks, Valkey};
use ratebox_worker::LookupCaches;

use self::board::{Board, Field, LocalMarks};
use super::{Bus, Parts, cache};

/// What is said on the board holds at least so long, and at most twice as long.
const SAID_FOR_MIN: Duration = Duration::from_secs(10);

/// What gateways and workers of this process share.
#[derive(Clone)]
pub struct Lookups {
    tier: Tier,
    board: Option<Arc<Board>>,
}

impl Lookups {
    /// Makes it. Nothing is dialled yet: a server may be away.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn new(parts: &Parts) -> Result<Self> {
        // It is said again after half of that, and an answer lives no longer than the other half.
        let age_max = Duration::from_millis(parts.config.lookup.max_age_ms);
        let said_for = SAID_FOR_MIN.max(age_max * 2 + Duration::from_secs(1));
        let (tier, field) = places(parts, said_for)?;
        if !parts.config.lookup.tell {
            return Ok(Self { tier, board: None });
        }
        let nothing = MemoryLimits {
            bytes_max: 0,
            ..MemoryLimits::default()
        };
        let caches: Cache<str, ()> = Cache::builder(LOOKUP_CACHE, &tier)
            .limits(Limits {
                memory: nothing,
                ..Limits::default()
            })
            .tasks(&parts.tasks)
            .build()?;
        let board = Board::new(field, caches, parts.clock.clone(), said_for / 2);
        Ok(Self {
            tier,
            board: Some(Arc::new(board)),
        })
    }

    /// For a gateway.
    ///
    /// # Errors
    /// When the rules cannot be used.
    pub fn of_gateway(&self, parts: &Parts) -> Result<LookupDeps> {
        let watch = self.board.clone().map(|it| it as Arc<dyn LookupWatch>);
        Ok(LookupDeps {
            tier: self.tier.clone(),
            watch,
            rules: parts.config.rules.rules()?,
        })
    }

    /// For a worker; `None` when workers tell nobody.
    pub fn of_worker(&self) -> Option<Arc<dyn LookupCaches>> {
        self.board.clone().map(|it| it as Arc<dyn LookupCaches>)
    }
}

/// Where answers are shared, and where it is said what is looked into.
fn places(parts: &Parts, said_for: Duration) -> Result<(Tier, Field)> {
    let config = &parts.config.cache;
    let Some(valkey) = server(parts)? else {
        let marks = LocalMarks::new(parts.clock.clone(), said_for);
        return Ok((Tier::none(), Field::Here(marks)));
    };
    if config.address()?.is_none() {
        tracing::warn!(
            "cache.url is empty: what is looked up is cached on the bus' server, and shares its memory"
        );
    }
    // Not the prefix of the cache service: each hears of all that is filled under its own.
    let prefix = format!("{}lookup:", config.prefix);
    let marks = Marks::new(valkey.separate(), &format!("{prefix}watched"), said_for);
    let settings = ValkeyTier {
        prefix,
        timeout: Duration::from_millis(config.away_after_ms),
        ..ValkeyTier::default()
    };
    let tier = Tier::valkey(&valkey, &settings, &parts.tasks).context("cache.prefix")?;
    Ok((tier, Field::Server(marks)))
}

/// The limiter of all gateways, where the settings ask for one.
///
/// # Errors
/// When there is no server that all could count on.
pub fn limiter(parts: &Parts) -> Result<Option<Limiter>> {
    if !parts.config.gateway.limits_shared {
        return Ok(None);
    }
    let server = server(parts)?.context(
        "gateway.limits_shared needs a server that all gateways count on; set cache.url or bus.url",
    )?;
    Ok(Some(Limiter::shared(
        server.separate(),
        format!("{}limit:", parts.config.cache.prefix),
        // Each class of routes brings its own.
        Quota::per_minute(1),
        WhenAway::Local,
        parts.clock.clone(),
    )))
}

/// The server of the cache, else that of the bus.
fn server(parts: &Parts) -> Result<Option<Valkey>> {
    let config = &parts.config.cache;
    if let Some(valkey) = cache::valkey(config)? {
        return Ok(Some(valkey));
    }
    Ok(match &parts.bus {
        Bus::Server { valkey, .. } if !config.fake => Some(valkey.clone()),
        Bus::Server { .. } | Bus::Embedded => None,
    })
}
