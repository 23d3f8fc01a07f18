//! The Lua scripts, each bounded by a count that the caller passes.

use std::sync::LazyLock;

use ratebox_valkey::Script;

macro_rules! scripts {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!($file)));)+
    };
}

scripts! {
    WRITE = "write.lua",
    ADOPT = "adopt.lua",
    CLAIM = "claim.lua",
    TAKE_PARKED = "take_parked.lua",
    PROCESS = "process.lua",
    DUE = "due.lua",
    POST = "post.lua",
    MAIL = "mail.lua",
    DELETE = "delete.lua",
    DESCRIBE = "describe.lua",
}
