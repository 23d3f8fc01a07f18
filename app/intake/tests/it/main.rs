//! Tests of the crate from outside: what it reads, judges, writes and hides.

mod accounts;
mod bodies;
mod classic;
mod codes;
mod confidence;
mod duplicates;
mod emails;
mod ids;
mod items;
mod masks;
mod names;
mod phones;
mod robust;
mod samples;
mod vectors;
mod wire;

use ratebox_intake::{Item, Profile, Rules, Verdict};

/// An item from its JSON text.
fn item(json: &str) -> Item {
    Item::parse(json.as_bytes()).expect("the test's JSON is fine")
}

/// The verdict on a JSON text.
fn judge(profile: Profile, json: &str) -> Verdict {
    Rules::new(profile).judge(&item(json))
}

/// A record with these four fields.
fn record(phone: &str, bank_account: &str, email: &str, name: &str) -> String {
    serde_json::json!({"phone": phone, "bank_account": bank_account, "email": email, "name": name})
        .to_string()
}

/// A record that is clean but for one field.
fn with(field: &str, value: &str) -> String {
    let mut json = serde_json::json!({
        "phone": "0912345678", "bank_account": "0071000123456", "email": "an@example.com", "name": "Nguyễn Văn An",
    });
    json[field] = value.into();
    json.to_string()
}

/// Numbers of the errors of a verdict.
fn errors(verdict: &Verdict) -> Vec<u16> {
    verdict
        .errors
        .iter()
        .map(|finding| finding.code.number)
        .collect()
}

/// Numbers of the warnings and information of a verdict.
fn warnings(verdict: &Verdict) -> Vec<u16> {
    verdict
        .warnings
        .iter()
        .map(|finding| finding.code.number)
        .collect()
}

/// A small generator with a seed, for cheap and repeatable data.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(b'0' + self.roll(10) as u8))
            .collect()
    }
}

/// No codes at all.
const NONE: [u16; 0] = [];
