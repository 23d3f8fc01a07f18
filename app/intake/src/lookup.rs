//! What is looked up: a phone, a bank account or an e-mail in its normal form, the same as in a
//! verdict.
//!
//! Who looks up and who records meet in *buckets*: a value falls into one of [`LOOKUP_BUCKETS`],
//! and a worker that recorded a value tells its bucket to the caches. A bucket is far too coarse to
//! tell anything of a value.

use crate::Rules;

/// Buckets that values fall into.
pub const LOOKUP_BUCKETS: usize = 1 << 16;

/// Bytes of a value that is looked up, as it is given; no phone, account or e-mail is longer.
pub const LOOKUP_BYTES_MAX: usize = 512;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LookupKind {
    /// A phone number.
    Phone,
    /// A bank account.
    BankAccount,
    /// An e-mail address.
    Email,
}

/// A value in its normal form. Personal data: its text must not be logged.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LookupKey {
    kind: LookupKind,
    value: String,
}

// === impl LookupKind ===

impl LookupKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Phone, Self::BankAccount, Self::Email];

    /// The word in paths and bodies, which is the field's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::BankAccount => "bank_account",
            Self::Email => "email",
        }
    }

    /// The kind of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The bucket of a value in its normal form (FNV-1a, folded). All processes of a fleet agree on
    /// it, so it is part of what versions have in common.
    pub fn bucket(self, value: &str) -> u16 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.word().bytes().take(1).chain(value.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
        u16::from_le_bytes([a ^ c ^ e ^ g, b ^ d ^ f ^ h])
    }
}

// === impl LookupKey ===

impl LookupKey {
    /// Reads a value as the worker does; `None` when it cannot be read as what it is said to be:
    /// then no record was ever found by it either.
    pub fn read(kind: LookupKind, text: &str, rules: &Rules) -> Option<Self> {
        if text.len() > LOOKUP_BYTES_MAX {
            return None;
        }
        let value = match kind {
            LookupKind::Phone => rules.phone_key(text),
            LookupKind::BankAccount => rules.bank_account_key(text),
            LookupKind::Email => rules.email_key(text),
        };
        value.map(|value| Self { kind, value })
    }

    /// What it is.
    pub fn kind(&self) -> LookupKind {
        self.kind
    }

    /// Its normal form.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Its bucket.
    pub fn bucket(&self) -> u16 {
        self.kind.bucket(&self.value)
    }
}

impl std::fmt::Debug for LookupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LookupKey")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_the_worker_reads_it() {
        let rules = Rules::default();
        let read = |kind, text: &str| {
            LookupKey::read(kind, text, &rules).map(|key| key.value().to_owned())
        };
        let phone = |text| read(LookupKind::Phone, text);
        assert_eq!(phone("0912 345 678").as_deref(), Some("+84912345678"));
        assert_eq!(phone("+84 912.345.678").as_deref(), Some("+84912345678"));
        assert_eq!(
            read(LookupKind::Email, " An@Example.COM").as_deref(),
            Some("an@example.com")
        );
        for nothing in ["", " ", "hello", "\0", "🙂", &"9".repeat(513)] {
            assert_eq!(phone(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn buckets_are_stable_and_even() {
        // Fixed: processes of different versions must agree.
        assert_eq!(LookupKind::Phone.bucket("+84912345678"), 27_029);
        let mut used = std::collections::HashSet::new();
        for number in 0..10_000 {
            used.insert(LookupKind::Phone.bucket(&format!("+849{number:08}")));
        }
        // Ten thousand balls into 65,536 bins leave about 9,274 bins with one.
        assert!((9_100..9_450).contains(&used.len()), "{}", used.len());
    }

    #[test]
    fn a_key_does_not_show_its_value() {
        let key = LookupKey::read(LookupKind::Phone, "0912345678", &Rules::default()).unwrap();
        assert!(!format!("{key:?}").contains("912"));
    }
}
