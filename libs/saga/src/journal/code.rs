//! What every store on disk writes alike: when a saga wakes as one number, JSON as text.

use bytes::Bytes;
use ratebox_kit::Timestamp;

use super::store::Wake;
use crate::{Error, Result};

/// 0 for live, the time in microseconds since 1970, or the end of numbers for letters.
pub(super) fn wake(wake: Wake) -> i64 {
    match wake {
        Wake::Live => 0,
        // A time before 1970 is due at once, like any other in the past.
        Wake::At(time) => time.as_microsecond().clamp(1, i64::MAX - 1),
        Wake::Letter => i64::MAX,
    }
}

pub(super) fn read_wake(code: i64) -> Result<Wake> {
    match code {
        0 => Ok(Wake::Live),
        i64::MAX => Ok(Wake::Letter),
        us => Timestamp::from_microsecond(us)
            .map(Wake::At)
            .map_err(|_| Error::Row {
                what: "a wake time beyond all times",
            }),
    }
}

/// JSON as text.
pub(super) fn json(bytes: &Bytes) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::Row {
        what: "a value is not UTF-8",
    })?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_come_back_as_what_they_were() {
        let time = Timestamp::from_microsecond(1_700_000_000_000_000).unwrap();
        for it in [Wake::Live, Wake::At(time), Wake::Letter] {
            assert_eq!(read_wake(wake(it)).unwrap(), it);
        }
        assert_eq!(wake(Wake::At(Timestamp::UNIX_EPOCH)), 1);
    }
}
