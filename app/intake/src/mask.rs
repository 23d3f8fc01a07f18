//! Hides personal data in what operators see: logs, displays of dead letters, messages of errors.
//! Enough is left to recognise a value that one already knows.

mod json;
mod text;

pub use json::mask_json;
pub use text::mask_message;

/// What stands for something that is not shown at all.
const HIDDEN: &str = "***";

/// A phone number with its last two digits, at most a third of it.
pub fn mask_phone(phone: &str) -> String {
    keep_end(phone, 2)
}

/// A bank account with its last four characters, at most a third of it.
pub fn mask_bank_account(account: &str) -> String {
    keep_end(account, 4)
}

/// An e-mail address with its first letter and its domain.
pub fn mask_email(email: &str) -> String {
    match email.rsplit_once('@') {
        Some((local, domain)) => {
            let first: String = local
                .chars()
                .take(usize::from(local.chars().count() > 1))
                .collect();
            format!("{first}{HIDDEN}@{domain}")
        }
        None => HIDDEN.to_owned(),
    }
}

/// A name as its initials.
pub fn mask_name(name: &str) -> String {
    let initials: Vec<String> = name
        .split_whitespace()
        .filter_map(|word| word.chars().next())
        .map(|initial| format!("{initial}."))
        .collect();
    if initials.is_empty() {
        HIDDEN.to_owned()
    } else {
        initials.join(" ")
    }
}

/// Hides all but the last `keep` characters, and never shows more than a third of the text.
fn keep_end(text: &str, keep: usize) -> String {
    let chars = text.chars().count();
    let shown = keep.min(chars / 3);
    let end: String = text.chars().skip(chars - shown).collect();
    format!("{HIDDEN}{end}")
}
