//! Judges items: the six rules, and everything else that is worth noticing. Pure: the same item gets the
//! same verdict. Each field has its own file; this one holds the settings and the order of the fields.

mod bank_account;
mod disposable;
mod duplicates;
mod email;
mod iban;
mod name;
mod phone;
mod record;
mod writing;

use crate::item::Item;
use crate::phone::Region;
use crate::profile::Profile;
use crate::verdict::Verdict;

/// How items are judged. Cheap to copy; one per request is fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    profile: Profile,
    region: Region,
    email_required: bool,
    unicode_mailbox: bool,
}

/// A region that no numbering plan is known for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no numbering plan is known for this region; use two letters such as VN")]
pub struct UnknownRegion;

impl Default for Rules {
    fn default() -> Self {
        Self::new(Profile::default())
    }
}

impl Rules {
    /// The rules of a profile for Vietnam, with an optional e-mail.
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            region: Region::vietnam(),
            email_required: false,
            unicode_mailbox: false,
        }
    }

    /// The same rules under another profile.
    pub fn with_profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// The same rules for another country, by its two letters: numbers without a country code are read as its numbers.
    ///
    /// # Errors
    /// [`UnknownRegion`] when no numbering plan is known for the letters.
    pub fn with_region(self, letters: &str) -> Result<Self, UnknownRegion> {
        let region = Region::new(letters).ok_or(UnknownRegion)?;
        Ok(Self { region, ..self })
    }

    /// Whether a missing e-mail is noticed (311): a warning under classic, an error otherwise.
    pub fn with_email_required(self, email_required: bool) -> Self {
        Self {
            email_required,
            ..self
        }
    }

    /// Whether letters beyond ASCII are taken before the @ (SMTPUTF8); otherwise they are 320.
    pub fn with_unicode_mailbox(self, unicode_mailbox: bool) -> Self {
        Self {
            unicode_mailbox,
            ..self
        }
    }

    /// The profile of these rules.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Judges one item.
    pub fn judge(&self, item: &Item) -> Verdict {
        let mut verdict = Verdict::new(self.profile);
        if let Some(kind) = item.not_object() {
            record::not_an_object(kind, &mut verdict);
            return verdict;
        }
        phone::check(item.phone(), self.region, &mut verdict);
        bank_account::check(item.bank_account(), item.bank(), self.region, &mut verdict);
        email::check(item.email(), self.email(), &mut verdict);
        name::check(item.name(), &mut verdict);
        record::check(item, &mut verdict);
        verdict
    }

    /// Judges the items of one request, in order, and notices what repeats an earlier item.
    pub fn judge_all(&self, items: &[Item]) -> Vec<Verdict> {
        let mut verdicts: Vec<_> = items.iter().map(|item| self.judge(item)).collect();
        duplicates::check(items, &mut verdicts);
        verdicts
    }

    /// The normal form of a phone number, for look-ups; the same as in a verdict.
    pub fn phone_key(&self, phone: &str) -> Option<String> {
        phone::key(phone, self.region)
    }

    /// The normal form of a bank account, for look-ups; the same as in a verdict.
    pub fn bank_account_key(&self, account: &str) -> Option<String> {
        bank_account::key(account)
    }

    /// The normal form of an e-mail, for look-ups; the same as in a verdict.
    pub fn email_key(&self, email: &str) -> Option<String> {
        email::key(email, self.email())
    }

    fn email(&self) -> email::Settings {
        email::Settings {
            required: self.email_required,
            unicode_mailbox: self.unicode_mailbox,
        }
    }

    /// Builds the tables and patterns that are otherwise built at the first use (some 50 ms). For the start of a server.
    pub fn warm_up(&self) {
        let text = r#"{"phone":"+1 202 555 0123","bank_account":"DE89370400440532013000","email":"a@mailinator.com","name":"Nguyễn"}"#;
        if let Ok(item) = Item::parse(text.as_bytes()) {
            self.judge(&item);
        }
        for phone in [
            "0912345678",
            "02438251234",
            "0123456789",
            "0912 345 678 ext 1",
        ] {
            phone::key(phone, self.region);
        }
    }
}
