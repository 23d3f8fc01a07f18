//! Checks an e-mail address: the one rule, then RFC 5321, the domain's name, and who gives it out.
//! Nothing is asked of the network.

use std::borrow::Cow;

use email_address::EmailAddress;
use idna::AsciiDenyList;

use super::{disposable, writing};
use crate::code;
use crate::finding::Params;
use crate::item::Field;
use crate::verdict::Verdict;

/// Longest address that a mail server takes (RFC 5321), in bytes.
const BYTES_MAX: usize = 254;

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

/// The normal form of an address: lower case, with the domain in ASCII. `None` for all that [`check`]
/// gives none to: no record was ever kept under it.
pub(super) fn key(raw: &str, settings: Settings) -> Option<String> {
    let trimmed = raw.trim();
    if !has_the_form(raw) || trimmed.len() > BYTES_MAX {
        return None;
    }
    let (local, domain) = parts(trimmed)?;
    let ascii = ascii(domain)?;
    if !is_local_part(local, settings) || !is_domain(&ascii) {
        return None;
    }
    normal(local, &ascii)
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
    if local.starts_with('"') || (!settings.unicode_mailbox && !local.is_ascii()) {
        return false;
    }
    !local
        .chars()
        .any(|c| writing::is_invisible(c) || writing::is_bidi_control(c))
        && EmailAddress::is_valid_local_part(local)
}

/// The domain in lower case and ASCII (UTS 46).
fn ascii(domain: &str) -> Option<Cow<'_, str>> {
    idna::domain_to_ascii_cow(domain.as_bytes(), AsciiDenyList::STD3).ok()
}

/// At least two labels of letters, digits and inner hyphens.
fn is_domain(ascii: &str) -> bool {
    ascii.contains('.') && EmailAddress::is_valid_domain(ascii)
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
