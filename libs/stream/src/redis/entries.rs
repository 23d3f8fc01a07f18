//! Entries as slices of the reply that they came in: one allocation each, for the list of fields.

use ratebox_valkey::{Error, Part, Parts, Reply};

use crate::{Entry, EntryId, FieldName, Lane, StreamName};

/// Names that are remembered from entry to entry.
const NAMES_MAX: usize = 64;

/// Names of fields that were seen, so that each is made once and not for every entry.
#[derive(Debug, Default)]
pub(super) struct Names {
    seen: Vec<FieldName>,
    /// Entries have their fields in the same order: this one comes next.
    next: usize,
}

// === impl Names ===

impl Names {
    fn of(&mut self, bytes: &[u8]) -> FieldName {
        if let Some(usual) = FieldName::usual(bytes) {
            return usual;
        }
        let is_it = |name: &FieldName| name.as_bytes() == bytes;
        let at = match self.seen.get(self.next).is_some_and(is_it) {
            true => Some(self.next),
            false => self.seen.iter().position(is_it),
        };
        if let Some(name) = at.and_then(|at| self.seen.get(at)) {
            self.next = at.map_or(0, |at| (at + 1) % self.seen.len());
            return name.clone();
        }
        // Bytes that are no text are replaced, as a name on a stream may be anything.
        let name = FieldName::from(&*String::from_utf8_lossy(bytes));
        if self.seen.len() < NAMES_MAX && name.as_bytes() == bytes {
            self.seen.push(name.clone());
        }
        name
    }
}

/// The entries of a read, stream by stream: `{stream: [[id, [name, value, …]], …], …}`, or a list
/// of pairs, or nothing. `place` says which stream and lane a name means. An entry may be followed by
/// its idle time and how often it was delivered before.
pub(super) fn by_stream<'a>(
    reply: &Reply,
    names: &mut Names,
    deliveries: u32,
    place: impl Fn(&[u8]) -> (&'a StreamName, Lane),
) -> Result<Vec<Entry>, Error> {
    let mut parts = reply.parts();
    let (streams, as_pairs) = match parts.next()? {
        Part::Pairs(streams) => (streams, false),
        Part::List(streams) => (streams, true),
        Part::Nothing => return Ok(Vec::new()),
        Part::Failed(error) => return Err(error),
        Part::Number(_) | Part::Text(_) => return Err(Error::answer("entries by stream")),
    };
    let mut entries = Vec::new();
    for _ in 0..streams {
        if as_pairs && parts.list()? != 2 {
            return Err(Error::answer("a stream with entries"));
        }
        let (stream, lane) = place(parts.text()?);
        let count = parts.list()?;
        entries.reserve(count);
        for _ in 0..count {
            let (id, fields, before) = entry(reply, &mut parts, names)?;
            entries.push(Entry {
                stream: stream.clone(),
                lane,
                id,
                deliveries: deliveries.saturating_add(before),
                fields,
            });
        }
    }
    Ok(entries)
}

type Fields = Vec<(FieldName, bytes::Bytes)>;

/// Id, fields, and deliveries before this one, as far as the reply tells.
fn entry(
    reply: &Reply,
    parts: &mut Parts<'_>,
    names: &mut Names,
) -> Result<(EntryId, Fields, u32), Error> {
    let elements = parts.list()?;
    if elements != 2 && elements != 4 {
        return Err(Error::answer("an entry"));
    }
    let id = EntryId::read(parts.text()?).ok_or_else(|| Error::answer("an entry id"))?;
    let words = parts.list()?;
    let mut fields = Vec::with_capacity(words / 2);
    for _ in 0..words / 2 {
        let name = names.of(parts.text()?);
        fields.push((name, reply.share(parts.text()?)));
    }
    if words % 2 == 1 {
        parts.skip()?;
    }
    let mut before = 0;
    if elements == 4 {
        parts.skip()?;
        before = match parts.next()? {
            Part::Number(count) => u32::try_from(count).unwrap_or(u32::MAX),
            _ => return Err(Error::answer("a count of deliveries")),
        };
    }
    Ok((id, fields, before))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn read(wire: &'static str, names: &mut Names) -> Result<Vec<Entry>, Error> {
        let streams = [StreamName::new("s"), StreamName::new("t")];
        let reply = Reply::read(&Bytes::from_static(wire.as_bytes()))?.expect("whole");
        by_stream(&reply, names, 1, |name| match name {
            b"s" => (&streams[0], Lane::High),
            _ => (&streams[1], Lane::Low),
        })
    }

    #[test]
    fn both_protocols_read_alike_and_values_lie_in_the_reply() {
        let entry = "*2\r\n$3\r\n7-1\r\n*4\r\n$4\r\ndata\r\n$1\r\nx\r\n$5\r\nother\r\n$0\r\n\r\n";
        let old = format!("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n{entry}");
        let new = format!("%2\r\n$1\r\ns\r\n*1\r\n{entry}$1\r\nt\r\n*2\r\n{entry}{entry}");
        let mut names = Names::default();
        for (wire, lanes) in [
            (old, vec![Lane::High]),
            (new, vec![Lane::High, Lane::Low, Lane::Low]),
        ] {
            let entries = read(wire.leak(), &mut names).unwrap();
            assert_eq!(entries.iter().map(|it| it.lane).collect::<Vec<_>>(), lanes);
            for entry in entries {
                assert_eq!((entry.id, entry.deliveries), (EntryId::new(7, 1), 1));
                assert_eq!(entry.fields[0], (FieldName::from("data"), Bytes::from("x")));
                assert_eq!(entry.fields[1], (FieldName::from("other"), Bytes::new()));
            }
        }
        assert_eq!(names.seen.len(), 1, "the usual ones need no place");
        assert!(read("_\r\n", &mut names).unwrap().is_empty());
        assert!(read("*-1\r\n", &mut names).unwrap().is_empty());
    }

    #[test]
    fn what_was_delivered_before_tells_how_often() {
        let wire = "%1\r\n$1\r\ns\r\n*2\r\n\
                    *4\r\n$3\r\n7-1\r\n*0\r\n:9000\r\n:2\r\n*4\r\n$3\r\n8-1\r\n*0\r\n:0\r\n:0\r\n";
        let entries = read(wire, &mut Names::default()).unwrap();
        let deliveries: Vec<u32> = entries.iter().map(|it| it.deliveries).collect();
        assert_eq!(deliveries, [3, 1]);
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        let mut names = Names::default();
        for wire in [
            "+OK\r\n",
            ":1\r\n",
            "*1\r\n+s\r\n",
            "*1\r\n*1\r\n+s\r\n",
            "%1\r\n+s\r\n*1\r\n*2\r\n+7\r\n*0\r\n",
            "%1\r\n+s\r\n*1\r\n*2\r\n+7-1\r\n*2\r\n+a\r\n*0\r\n",
            "%1\r\n+s\r\n*1\r\n*3\r\n+7-1\r\n*0\r\n*0\r\n",
            "%1\r\n+s\r\n*1\r\n*4\r\n+7-1\r\n*0\r\n:1\r\n*0\r\n",
        ] {
            assert!(
                matches!(read(wire, &mut names), Err(Error::Answer { .. })),
                "{wire:?}"
            );
        }
        let no_group = "-NOGROUP No such key\r\n";
        assert_eq!(read(no_group, &mut names).unwrap_err(), Error::NoGroup);
    }

    #[test]
    fn names_are_remembered_up_to_a_limit() {
        let mut names = Names::default();
        for round in 0..3 {
            for number in 0..NAMES_MAX * 2 {
                let name = format!("name {number}");
                assert_eq!(names.of(name.as_bytes()), name, "round {round}");
            }
        }
        assert_eq!(names.seen.len(), NAMES_MAX);
        assert_eq!(names.of(b"\xff"), "\u{fffd}");
    }
}
