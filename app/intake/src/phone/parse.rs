//! From a text to a number: which country, which digits. The steps and their order are those of
//! Google's libphonenumber (Apache-2.0, The Libphonenumber Authors), whose plans these are.

use std::borrow::Cow;

use super::plan::{Length, Plan};
use super::plans::{self, Region};
use super::{Number, text};

/// Digits of a national number.
const DIGITS_MIN: usize = 2;
const DIGITS_MAX: usize = 17;
/// Zeros at the beginning of a number that are kept; no plan has so many.
const LEADING_ZEROS_MAX: usize = 10;

/// Why a text is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    NotANumber,
    /// No country has this calling code.
    NoCountry,
    TooShort,
    TooLong,
}

/// Reads a text as a number of the region, or of the country that it names.
pub(super) fn parse(raw: &str, home: &'static Region) -> Result<Number, Refused> {
    let candidate = text::candidate(raw).filter(|it| text::is_viable(it));
    let candidate = candidate.ok_or(Refused::NotANumber)?;
    let extension = text::before_extension(candidate);
    let (code, digits) = country(extension.unwrap_or(candidate), home)?;
    // The main region's plan holds the prefixes of all who share its code.
    let region = code.and_then(plans::main_of).unwrap_or(home);
    long_enough(&digits)?;
    let digits = national(region.plan(), &digits).into_owned();
    long_enough(&digits)?;
    if digits.len() > DIGITS_MAX {
        return Err(Refused::TooLong);
    }
    Ok(Number {
        calling_code: code.unwrap_or(home.calling_code),
        national: with_few_zeros(digits),
        has_extension: extension.is_some(),
    })
}

fn long_enough(digits: &str) -> Result<(), Refused> {
    if digits.len() < DIGITS_MIN {
        return Err(Refused::TooShort);
    }
    Ok(())
}

/// The calling code, if the text names one, and the digits behind it.
fn country(text: &str, home: &Region) -> Result<(Option<u16>, String), Refused> {
    let Some(behind_plus) = text::behind_plus(text) else {
        return without_plus(text, home);
    };
    match international(text::digits(behind_plus)) {
        // `+00 84…`: a plus and the prefix for abroad.
        Err(Refused::NoCountry) => match without_plus(behind_plus, home)? {
            (None, _) => Err(Refused::NoCountry),
            found => Ok(found),
        },
        found => found,
    }
}

fn without_plus(text: &str, home: &Region) -> Result<(Option<u16>, String), Refused> {
    let digits = text::digits(text);
    let plan = home.plan();
    if let Some(found) = plan.international.find(&digits) {
        let rest = &digits[found.end..];
        // No calling code begins with 0: those digits were no prefix.
        if !rest.starts_with('0') {
            return international(rest.to_owned());
        }
    }
    Ok(match with_own_code(plan, &digits, home.calling_code) {
        Some(national) => (Some(home.calling_code), national),
        None => (None, digits),
    })
}

fn international(mut digits: String) -> Result<(Option<u16>, String), Refused> {
    if digits.len() <= DIGITS_MIN {
        return Err(Refused::TooShort);
    }
    let (code, count) = plans::leading_code(&digits).ok_or(Refused::NoCountry)?;
    digits.drain(..count);
    Ok((Some(code), digits))
}

/// The digits behind the region's own calling code, where it was written without plus: the digits
/// are no number with it and one without it, or too many with it.
fn with_own_code(plan: &Plan, digits: &str, own: u16) -> Option<String> {
    let (code, count) = plans::leading_code(digits)?;
    if code != own {
        return None;
    }
    let rest = without_national_prefix(plan, digits.get(count..)?);
    let is_better = !plan.is_number(digits) && plan.is_number(&rest);
    (is_better || plan.length(digits.len()) == Length::TooLong).then(|| rest.into_owned())
}

/// The digits without the national prefix, unless they are too few without it: then what looked
/// like a prefix is part of a short number.
fn national<'a>(plan: &Plan, digits: &'a str) -> Cow<'a, str> {
    let stripped = without_national_prefix(plan, digits);
    match plan.length(stripped.len()) {
        Length::Possible | Length::TooLong => stripped,
        Length::LocalOnly | Length::TooShort | Length::Invalid => digits.into(),
    }
}

/// Strips the national prefix, unless that makes a number of the plan something else.
fn without_national_prefix<'a>(plan: &Plan, digits: &'a str) -> Cow<'a, str> {
    let Some(found) = plan.national.find(digits) else {
        return digits.into();
    };
    let is_empty = |(from, to): (usize, usize)| from == to;
    let holds_number = match (found.first, found.second) {
        (None, _) => false,
        (Some(first), None) => !is_empty(first),
        (Some(_), Some(second)) => !is_empty(second),
    };
    let rest = &digits[found.end..];
    let stripped: Cow<'a, str> = match plan.transform.filter(|_| holds_number) {
        Some((new, group)) => {
            let group = if group == 1 {
                found.first
            } else {
                found.second
            };
            let group = group.map_or("", |(from, to)| &digits[from..to]);
            format!("{new}{group}{rest}").into()
        }
        None => rest.into(),
    };
    if plan.is_number(digits) && !plan.is_number(&stripped) {
        return digits.into();
    }
    stripped
}

fn with_few_zeros(mut digits: String) -> String {
    let zeros = digits.bytes().take_while(|byte| *byte == b'0').count();
    // The last digit is no leading zero.
    let zeros = zeros.min(digits.len() - 1);
    digits.drain(..zeros.saturating_sub(LEADING_ZEROS_MAX));
    digits
}
