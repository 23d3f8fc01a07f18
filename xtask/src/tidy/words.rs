//! The libraries know nothing of the product: no word of it in their code or literals. Comments may
//! give examples, tests and READMEs may use the words as data.

use super::Finding;
use super::source::{Source, words};

const RULE: &str = "words of the product";

const PRODUCT: [&str; 12] = [
    "validation",
    "validator",
    "validators",
    "phone",
    "phones",
    "email",
    "emails",
    "iban",
    "bank",
    "verdict",
    "intake",
    "importer",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if !source.is_product() || !source.is_in("libs") {
        return Vec::new();
    }
    let lines = source.shipped_lines().chain(source.shipped_literals());
    lines
        .filter_map(|(line, text)| Some((line, words(text).find_map(product_word)?)))
        .map(|(line, word)| {
            let advice =
                format!("`{word}` is a word of the product: give the library a general one");
            source.finding(line, RULE, advice)
        })
        .collect()
}

/// The product's word within `raw_phone_number` or `PhoneNumber`.
fn product_word(word: &str) -> Option<&'static str> {
    let mut parts = vec![String::new()];
    let mut lower_before = false;
    for letter in word.chars() {
        if letter == '_' || (letter.is_uppercase() && lower_before) {
            parts.push(String::new());
        }
        lower_before = letter.is_lowercase();
        if let Some(part) = parts.last_mut().filter(|_| letter != '_') {
            part.extend(letter.to_lowercase());
        }
    }
    PRODUCT
        .into_iter()
        .find(|product| parts.iter().any(|part| part == product))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{lines, source};
    use super::*;

    const SAMPLE: &str = "//! Phones are only an example.\nlet raw_phone = 1;\nstruct BankAccount;\n\
                          f(\"validation_requests\");\nlet telephone_banking = 1;\n";

    #[test]
    fn names_and_literals_of_the_product_are_found_in_libraries() {
        let found = check(&source("libs/stream/src/a.rs", SAMPLE));
        assert_eq!(lines(&found), [2, 3, 4]);
    }

    #[test]
    fn the_product_and_tests_may_use_their_words() {
        assert!(check(&source("app/worker/src/a.rs", SAMPLE)).is_empty());
        assert!(check(&source("libs/stream/tests/it/a.rs", SAMPLE)).is_empty());
    }
}
