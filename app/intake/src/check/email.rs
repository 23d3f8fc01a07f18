//! Checks an e-mail address: the one rule, then RFC 5321, the domain's name, and who gives it out.
//! Nothing is asked of the network.

use std::borrow::Cow;

use idna::AsciiDenyList;

use super::{disposable, writing};
use crate::code;
use crate::finding::Params;
use crate::item::Field;
use crate::verdict::Verdict;

/// Longest address that a mail server takes (RFC 5321), in bytes.
const BYTES_MAX: usize = 254;

/// Longest part before the @ (RFC 5321), in bytes.
const LOCAL_PART_BYTES_MAX: usize = 64;

/// Longest part of a domain between two dots (RFC 1034), in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// Top-level names that can receive no mail (RFC 6761, RFC 7686, RFC 8375, RFC 9476, ICANN's `internal`).
/// `example.com` and its kin are left out: samples and tests are full of them, and they do no harm.
const SPECIAL_USE: &[&str] = &[
    "alt",
    "arpa",
    "example",
    "internal",
    "invalid",
    "local",
    "localhost",
    "onion",
    "test",
];

/// Mailboxes that belong to a role (RFC 2142 and habit).
const ROLES: &[&str] = &[
    "abuse",
    "accounts",
    "admin",
    "administrator",
    "billing",
    "contact",
    "help",
    "hostmaster",
    "info",
    "marketing",
    "no-reply",
    "noreply",
    "office",
    "postmaster",
    "root",
    "sales",
    "security",
    "service",
    "support",
    "webmaster",
];

/// What the rules say about e-mail.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    /// Whether a missing e-mail is noticed.
    pub(super) required: bool,
    /// Whether letters beyond ASCII are taken before the @.
    pub(super) unicode_mailbox: bool,
}

/// Checks the field, and puts the address in its normal form.
pub(super) fn check(field: Field<'_>, settings: Settings, verdict: &mut Verdict) {
    match field {
        Field::Absent | Field::Text("") => {
            if settings.required {
                verdict.note(&code::EMAIL_MISSING);
            }
        }
        Field::WrongType(kind) => {
            verdict.add(
                &code::EMAIL_WRONG_TYPE,
                Params::default().text("got", kind.word()),
            );
        }
        Field::Text(raw) if !has_the_form(raw) => {
            let message = format!("Invalid email format: {raw}");
            verdict.tell(&code::EMAIL_FORMAT, message, Params::default());
        }
        Field::Text(raw) => noticed(raw, settings, verdict),
    }
}

/// The normal form of an address: lower case, with the domain in ASCII.
pub(super) fn key(raw: &str) -> Option<String> {
    let (local, domain) = parts(raw.trim())?;
    normal(local, &ascii(domain)?)
}

/// The one rule: an @, and a dot after the last one.
fn has_the_form(raw: &str) -> bool {
    raw.rsplit_once('@')
        .is_some_and(|(_, after)| after.contains('.'))
}

/// Everything beyond the rule. Stops at the first thing that makes the rest meaningless.
fn noticed(raw: &str, settings: Settings, verdict: &mut Verdict) {
    let trimmed = raw.trim();
    if trimmed.len() > BYTES_MAX {
        let params = Params::default()
            .number("got", trimmed.len())
            .number("max", BYTES_MAX);
        return verdict.add(&code::EMAIL_TOO_LONG, params);
    }
    let Some((local, domain)) = parts(trimmed) else {
        return verdict.note(&code::EMAIL_LOCAL_PART);
    };
    let local_is_fine = is_local_part(local, settings);
    if !local_is_fine {
        verdict.note(&code::EMAIL_LOCAL_PART);
    }
    let Some(ascii) = ascii(domain) else {
        return verdict.note(&code::EMAIL_DOMAIN);
    };
    if !is_domain(&ascii) {
        return verdict.note(&code::EMAIL_DOMAIN);
    }
    about_domain(&ascii, verdict);
    if mixes_scripts(local, domain) {
        verdict.note(&code::EMAIL_MIXED_SCRIPT);
    }
    if ROLES.iter().any(|role| role.eq_ignore_ascii_case(local)) {
        verdict.note(&code::EMAIL_ROLE);
    }
    if local_is_fine {
        verdict.normalized.email = normal(local, &ascii);
        if verdict.normalized.email.as_deref() != Some(raw) {
            verdict.note(&code::EMAIL_NORMALISED);
        }
    }
}

/// The address around its last @.
fn parts(address: &str) -> Option<(&str, &str)> {
    address
        .rsplit_once('@')
        .filter(|(local, domain)| !local.is_empty() && !domain.is_empty())
}

/// A dot-atom of at most 64 bytes. Quoted and commented forms are legal and useless: nobody has such a mailbox.
fn is_local_part(local: &str, settings: Settings) -> bool {
    if !settings.unicode_mailbox && !local.is_ascii() {
        return false;
    }
    !local
        .chars()
        .any(|c| writing::is_invisible(c) || writing::is_bidi_control(c))
        && is_dot_atom(local)
}

/// Words with a dot between them (RFC 5322), in letters of all languages (RFC 6531).
fn is_dot_atom(local: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let is_word = |word: &str| !word.is_empty() && word.chars().all(in_word);
    local.len() <= LOCAL_PART_BYTES_MAX && local.split('.').all(is_word)
}

/// The domain in lower case and ASCII (UTS 46).
fn ascii(domain: &str) -> Option<Cow<'_, str>> {
    idna::domain_to_ascii_cow(domain.as_bytes(), AsciiDenyList::STD3).ok()
}

/// At least two labels of letters, digits and inner hyphens.
fn is_domain(ascii: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && !(label.starts_with('-') || label.ends_with('-'))
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    ascii.contains('.') && ascii.len() <= BYTES_MAX && ascii.split('.').all(is_label)
}

fn about_domain(ascii: &str, verdict: &mut Verdict) {
    let top = ascii.rsplit_once('.').map_or(ascii, |(_, top)| top);
    if SPECIAL_USE.contains(&top) {
        verdict.note(&code::EMAIL_SPECIAL_USE);
    } else if !has_public_suffix(ascii) {
        verdict.note(&code::EMAIL_NO_SUFFIX);
    } else if disposable::is_disposable(ascii) {
        verdict.note(&code::EMAIL_DISPOSABLE);
    }
}

/// Whether the domain stands below a suffix that someone registers names under.
fn has_public_suffix(ascii: &str) -> bool {
    let suffix = psl::suffix(ascii.as_bytes()).filter(psl::Suffix::is_known);
    suffix.is_some_and(|suffix| suffix.as_bytes().len() < ascii.len())
}

/// Looks at each label alone: an international name before `.com` is no mixture.
fn mixes_scripts(local: &str, domain: &str) -> bool {
    if local.is_ascii() && domain.is_ascii() && !domain.contains("xn--") {
        return false;
    }
    let (unicode, _) = idna::domain_to_unicode(domain);
    writing::mixes_scripts(local) || unicode.split('.').any(writing::mixes_scripts)
}

fn normal(local: &str, ascii: &str) -> Option<String> {
    let mut key = String::with_capacity(local.len() + 1 + ascii.len());
    if local.is_ascii() {
        key.push_str(local);
        key.make_ascii_lowercase();
    } else {
        key.push_str(&local.to_lowercase());
    }
    key.push('@');
    key.push_str(ascii);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use email_address::EmailAddress;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_before_the_at_are_read_as_another_reader_does(
            local in prop_oneof!["[a-z0-9.!#$%&'*+/=?^_`{|}~()<>@,;: \\\\\"-]{0,70}", "[a-z.\\PC]{0,24}"]
        ) {
            // Quoted forms are refused here; the other takes code points for bytes of UTF-8.
            prop_assume!(!local.starts_with('"'));
            prop_assume!(!local.contains(|c| ('\u{c280}'..='\u{d7ff}').contains(&c)));
            prop_assert_eq!(is_dot_atom(&local), EmailAddress::is_valid_local_part(&local));
        }

        #[test]
        fn domains_are_read_as_another_reader_does(
            domain in prop_oneof!["[a-z0-9.-]{0,12}", "[a-z]{1,70}[.][a-z]{1,70}", "([a-z]{60}[.]){3,4}[a-z]{1,20}"]
        ) {
            let theirs = domain.contains('.') && EmailAddress::is_valid_domain(&domain);
            prop_assert_eq!(is_domain(&domain), theirs);
        }
    }
}
