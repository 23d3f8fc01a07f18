//! Hash slots: which part of a cluster a command belongs to.

use redis::{Arg, Cmd};

/// Slots of a cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// The slot of a command's first key; `None` for commands without one, which any node answers.
///
/// All keys of one command must lie in one slot; the server refuses others with `CROSSSLOT`.
pub(crate) fn of(cmd: &Cmd) -> Option<u16> {
    key_of(cmd).map(of_key)
}

/// The slot of a key: of what stands within its first braces, or of all of it.
pub(crate) fn of_key(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

fn key_of(cmd: &Cmd) -> Option<&[u8]> {
    let mut words = cmd.args_iter().filter_map(|arg| match arg {
        Arg::Simple(word) => Some(word),
        _ => None,
    });
    let name = words.next()?;
    let is = |names: &[&str]| {
        names
            .iter()
            .any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
    };
    if is(&["XREADGROUP", "XREAD"]) {
        words.find(|word| word.eq_ignore_ascii_case(b"STREAMS"))?;
        words.next()
    } else if is(&["XADD", "XACK"]) {
        words.next()
    } else if is(&[
        "EVALSHA",
        "EVAL",
        "EVALSHA_RO",
        "EVAL_RO",
        "FCALL",
        "FCALL_RO",
    ]) {
        // Script, number of keys, first key.
        words.nth(2).filter(|_| has_keys(cmd))
    } else if is(&["XGROUP", "XINFO", "OBJECT", "MEMORY"]) {
        words.nth(1)
    } else if is(&KEYLESS) {
        None
    } else {
        words.next()
    }
}

/// Commands that name no key.
const KEYLESS: [&str; 16] = [
    "PING", "INFO", "CONFIG", "TIME", "ROLE", "CLUSTER", "CLIENT", "COMMAND", "SCRIPT", "ACL",
    "WAIT", "WAITAOF", "DBSIZE", "LATENCY", "SLOWLOG", "FUNCTION",
];

fn has_keys(cmd: &Cmd) -> bool {
    cmd.args_iter().nth(2) != Some(Arg::Simple(b"0"))
}

/// CRC-16/XMODEM, as the cluster specification asks for.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let index = usize::from((crc >> 8) ^ u16::from(*byte)) & 0xff;
        (crc << 8) ^ TABLE.get(index).copied().unwrap_or(0)
    })
}

static TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use redis::cmd;

    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in [("foo", 12_182), ("{user1000}.following", 3_443), ("", 0)] {
            assert_eq!(of_key(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(of_key(b"requests"), of_key(b"{requests}:high"));
        assert_eq!(of_key(b"{requests}:low"), of_key(b"{requests}:delayed"));
        assert_ne!(of_key(b"{}a"), of_key(b"{}b"), "an empty tag is none");
        assert_eq!(of_key(b"a{b}c{d}"), of_key(b"b"), "the first tag counts");
    }

    #[test]
    fn the_first_key_of_a_command_is_found() {
        for (line, key) in [
            ("XADD k * a b", Some("k")),
            (
                "xreadgroup GROUP g c COUNT 1 BLOCK 1 STREAMS k l > >",
                Some("k"),
            ),
            ("XREAD STREAMS k 0", Some("k")),
            ("XGROUP CREATE k g 0", Some("k")),
            ("XINFO STREAM k", Some("k")),
            ("EVALSHA hash 2 k l a", Some("k")),
            ("EVAL source 0 a", None),
            ("SET k v", Some("k")),
            ("TIME", None),
            ("PING", None),
        ] {
            let mut words = line.split(' ');
            let mut command = cmd(words.next().unwrap());
            for word in words {
                command.arg(word);
            }
            assert_eq!(key_of(&command), key.map(str::as_bytes), "{line}");
        }
    }
}
