//! International account numbers (ISO 13616). Vietnam has none; whoever sends one is checked all the same.

use iban::{Iban, ParseIbanError};

/// What is wrong with an IBAN.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The check digits do not fit.
    Checksum,
    /// The length or the form is not that of the country.
    Form {
        /// Length that the country's numbers have.
        expected: usize,
    },
}

/// The country of a text that begins like an IBAN: two letters of a country that has them, and two digits.
pub(super) fn country(account: &str) -> Option<&str> {
    let digits = account.as_bytes().get(2..4)?;
    let country = account.get(..2)?;
    (digits.iter().all(u8::is_ascii_digit) && length(country).is_some()).then_some(country)
}

/// Checks an upper-case IBAN without blanks whose country is known.
pub(super) fn check(account: &str) -> Result<(), Fault> {
    let expected = country(account).and_then(length).unwrap_or_default();
    if account.len() != expected {
        return Err(Fault::Form { expected });
    }
    match account.parse::<Iban>() {
        Ok(_) => Ok(()),
        Err(ParseIbanError::InvalidBaseIban { .. }) => Err(Fault::Checksum),
        Err(ParseIbanError::InvalidBban(_) | ParseIbanError::UnknownCountry(_)) => {
            Err(Fault::Form { expected })
        }
    }
}

fn length(country: &str) -> Option<usize> {
    let at = LENGTHS
        .binary_search_by_key(&country, |(country, _)| country)
        .ok()?;
    LENGTHS.get(at).map(|(_, length)| usize::from(*length))
}

/// Length of the numbers of each country, from the registry of SWIFT; in order.
#[rustfmt::skip]
const LENGTHS: &[(&str, u8)] = &[
    ("AD", 24), ("AE", 23), ("AL", 28), ("AT", 20), ("AZ", 28), ("BA", 20), ("BE", 16), ("BG", 22),
    ("BH", 22), ("BI", 27), ("BR", 29), ("BY", 28), ("CH", 21), ("CR", 22), ("CY", 28), ("CZ", 24),
    ("DE", 22), ("DJ", 27), ("DK", 18), ("DO", 28), ("EE", 20), ("EG", 29), ("ES", 24), ("FI", 18),
    ("FK", 18), ("FO", 18), ("FR", 27), ("GB", 22), ("GE", 22), ("GI", 23), ("GL", 18), ("GR", 27),
    ("GT", 28), ("HR", 21), ("HU", 28), ("IE", 22), ("IL", 23), ("IQ", 23), ("IS", 26), ("IT", 27),
    ("JO", 30), ("KW", 30), ("KZ", 20), ("LB", 28), ("LC", 32), ("LI", 21), ("LT", 20), ("LU", 20),
    ("LV", 21), ("LY", 25), ("MC", 27), ("MD", 24), ("ME", 22), ("MK", 19), ("MN", 20), ("MR", 27),
    ("MT", 31), ("MU", 30), ("NI", 28), ("NL", 18), ("NO", 15), ("OM", 23), ("PL", 28), ("PS", 29),
    ("PT", 25), ("QA", 29), ("RO", 24), ("RS", 22), ("RU", 33), ("SA", 24), ("SC", 31), ("SD", 18),
    ("SE", 24), ("SI", 19), ("SK", 24), ("SM", 27), ("SO", 23), ("ST", 25), ("SV", 28), ("TL", 23),
    ("TN", 24), ("TR", 26), ("UA", 29), ("VA", 22), ("VG", 24), ("XK", 20), ("YE", 30),
];
