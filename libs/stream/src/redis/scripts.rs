//! The Lua scripts, each bounded by a count that the caller passes.

use ratebox_valkey::Script;

pub(super) struct Scripts {
    pub(super) acquire: Script,
    pub(super) backlog: Script,
    pub(super) enter: Script,
    pub(super) admit: Script,
    pub(super) claim_idle: Script,
    pub(super) claim_own: Script,
    pub(super) claim_these: Script,
    pub(super) touch: Script,
    pub(super) delay: Script,
    pub(super) promote: Script,
    pub(super) ack_own: Script,
    pub(super) release: Script,
    pub(super) floor: Script,
    pub(super) trim: Script,
    pub(super) nth: Script,
    pub(super) remove_dead: Script,
    pub(super) send: Script,
    pub(super) unschedule: Script,
    pub(super) orders: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            enter: Script::new(include_str!("enter.lua")),
            admit: Script::new(include_str!("admit.lua")),
            backlog: Script::new(include_str!("backlog.lua")),
            acquire: Script::new(include_str!("acquire.lua")),
            claim_idle: Script::new(include_str!("claim_idle.lua")),
            claim_own: Script::new(include_str!("claim_own.lua")),
            claim_these: Script::new(include_str!("claim_these.lua")),
            touch: Script::new(include_str!("touch.lua")),
            delay: Script::new(include_str!("delay.lua")),
            promote: Script::new(include_str!("promote.lua")),
            ack_own: Script::new(include_str!("ack_own.lua")),
            release: Script::new(include_str!("release.lua")),
            floor: Script::new(include_str!("floor.lua")),
            trim: Script::new(include_str!("trim.lua")),
            nth: Script::new(include_str!("nth.lua")),
            remove_dead: Script::new(include_str!("remove_dead.lua")),
            send: Script::new(include_str!("send.lua")),
            unschedule: Script::new(include_str!("unschedule.lua")),
            orders: Script::new(include_str!("orders.lua")),
        }
    }
}
