//! How a waiting retry is written: its name in the set, and its fields for the script.

use bytes::Bytes;

use crate::{EntryId, FieldName, GroupName, Lane};

/// `low/1700000000000-0/1700000000123-4/group`: lane, first entry, the entry that failed, group.
/// The group comes last, for it may contain anything.
pub(super) fn member(lane: Lane, first: EntryId, failed: EntryId, group: &GroupName) -> String {
    format!("{lane}/{first}/{failed}/{group}")
}

/// Lane and first entry of a name, if it is this group's.
pub(super) fn first_entry(member: &str, group: &GroupName) -> Option<(Lane, EntryId)> {
    let mut parts = member.splitn(4, '/');
    let lane = Lane::parse(parts.next()?)?;
    let first = parts.next()?.parse().ok()?;
    let _failed = parts.next()?;
    (parts.next()? == group.as_str()).then_some((lane, first))
}

/// Names and values as one MessagePack array of strings, which the script reads with `cmsgpack`.
pub(super) fn pack(fields: &[(FieldName, Bytes)]) -> Vec<u8> {
    const ARRAY_32: u8 = 0xdd;
    const STR_32: u8 = 0xdb;
    let length: usize = fields
        .iter()
        .map(|(name, value)| name.len() + value.len() + 10)
        .sum();
    let mut packed = Vec::with_capacity(length + 5);
    let count = u32::try_from(fields.len() * 2).unwrap_or(u32::MAX);
    packed.push(ARRAY_32);
    packed.extend(count.to_be_bytes());
    for text in fields
        .iter()
        .flat_map(|(name, value)| [name.as_bytes(), &value[..]])
    {
        packed.push(STR_32);
        packed.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        packed.extend(text);
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_tells_lane_and_first_entry_to_its_group_only() {
        let group = GroupName::new("a/b");
        let name = member(Lane::Low, EntryId::new(1, 2), EntryId::new(3, 4), &group);
        assert_eq!(name, "low/1-2/3-4/a/b");
        assert_eq!(
            first_entry(&name, &group),
            Some((Lane::Low, EntryId::new(1, 2)))
        );
        assert_eq!(first_entry(&name, &GroupName::new("a")), None);
    }

    #[test]
    fn fields_are_packed_as_strings_of_any_bytes() {
        let packed = pack(&[("a".into(), Bytes::from_static(&[0xff]))]);
        assert_eq!(
            packed,
            [
                0xdd, 0, 0, 0, 2, 0xdb, 0, 0, 0, 1, b'a', 0xdb, 0, 0, 0, 1, 0xff
            ]
        );
    }
}
