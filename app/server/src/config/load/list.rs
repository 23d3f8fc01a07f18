//! A list that is one text, in the environment or behind a flag.

use std::net::Ipv6Addr;

use toml::{Table, Value};

/// The texts of a list: between commas, or in brackets and quotes as in a file. `None` when brackets
/// hold anything else: taken for a part of a text, they would fit nothing, and nobody would be told.
pub(super) fn read(text: &str) -> Option<Vec<Value>> {
    if text.trim_start().starts_with('[') && !begins_with_address(text) {
        let mut table: Table = format!("list = {text}").parse().ok()?;
        return match (table.remove("list"), table.is_empty()) {
            (Some(Value::Array(list)), true) if list.iter().all(Value::is_str) => Some(list),
            _ => None,
        };
    }
    let parts = text.split(',').map(str::trim);
    let parts = parts.filter(|part| !part.is_empty());
    Some(parts.map(|part| Value::String(part.to_owned())).collect())
}

/// An address of IPv6 with a port begins with a bracket as well: `[::1]:26379`.
fn begins_with_address(text: &str) -> bool {
    let rest = text.trim_start().strip_prefix('[');
    let address = rest.and_then(|rest| rest.split_once(']'));
    address.is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Option<Vec<String>> {
        let list = read(text)?;
        let texts = list.iter().filter_map(Value::as_str);
        Some(texts.map(str::to_owned).collect())
    }

    fn check(text: &str, expected: &[&str]) {
        let expected = expected.iter().map(|&it| it.to_owned()).collect();
        assert_eq!(texts(text), Some(expected), "{text}");
    }

    #[test]
    fn a_list_is_written_with_commas_or_as_in_a_file() {
        check("a,b", &["a", "b"]);
        check(" a , b,", &["a", "b"]);
        check(r#"["a","b"]"#, &["a", "b"]);
        check(r#" ["a", 'b',] "#, &["a", "b"]);
        check("[\n\"a,b\"]", &["a,b"]);
        check("[::1]:1,[::2]:2", &["[::1]:1", "[::2]:2"]);
        check("[]", &[]);
        check("", &[]);
    }

    #[test]
    fn brackets_with_anything_else_in_them_are_no_list() {
        for text in [
            "[a]",
            "[\"a\"",
            "[1]",
            "[\"a\"],b",
            "[\"a\"]\nother = 1",
            "[[\"a\"]]",
        ] {
            assert_eq!(texts(text), None, "{text}");
        }
    }
}
