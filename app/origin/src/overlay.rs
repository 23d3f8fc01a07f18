//! A value as it will be when its origin has the texts that wait.

use bytes::Bytes;
use serde_json::{Map, Value as Json};

use crate::resource::{Declaration, Key};

/// Lays texts over a value. Without a value it is a new one, if the texts and the declared defaults
/// say all of it; `None` when they do not, for what the origin would make of the rest is not known.
pub(crate) fn over(
    declared: &Declaration,
    key: &Key,
    before: Option<&Bytes>,
    texts: &[Option<String>],
) -> Option<Bytes> {
    let Some(before) = before else {
        return whole(declared, key, texts).or_else(|| new(declared, key, texts));
    };
    let mut object: Map<String, Json> = serde_json::from_slice(before).ok()?;
    for (field, text) in given(declared, texts) {
        object.insert(field.to_owned(), Json::from(text));
    }
    Some(Bytes::from(Json::Object(object).to_string()))
}

/// The value when the texts are all of it but the key.
pub(crate) fn whole(declared: &Declaration, key: &Key, texts: &[Option<String>]) -> Option<Bytes> {
    let (first, others) = declared.fields.split_first()?;
    let mut object = Map::new();
    object.insert(first.clone(), as_json(key));
    for (field, text) in given(declared, texts) {
        object.insert(field.to_owned(), Json::from(text));
    }
    let has = |field: &String| object.contains_key(field);
    let is_whole = others.iter().all(has) && object.len() == declared.fields.len();
    is_whole.then(|| Bytes::from(Json::Object(object).to_string()))
}

/// The value of a key that has none yet.
fn new(declared: &Declaration, key: &Key, texts: &[Option<String>]) -> Option<Bytes> {
    let key_text = key.to_string();
    let filled = |(at, default): (usize, &String)| {
        let text = texts.get(at).cloned().flatten();
        Some(text.unwrap_or_else(|| default.replace("{key}", &key_text)))
    };
    let filled: Vec<_> = declared.defaults.iter().enumerate().map(filled).collect();
    whole(declared, key, &filled)
}

/// Why [`over`] does not know a new value, and what to do about it.
pub(crate) fn unknown(declared: &Declaration, texts: &[Option<String>]) -> String {
    let others = declared.fields.iter().skip(1);
    let fixed = others.filter(|field| !declared.writable.contains(field));
    let fixed: Vec<&str> = fixed.map(String::as_str).collect();
    let pairs = declared.writable.iter().zip(texts);
    let left_out = pairs.filter(|(_, text)| text.is_none() && declared.defaults.is_empty());
    let left_out: Vec<&str> = left_out.map(|(field, _)| field.as_str()).collect();
    let no_row = "there is no such row yet, and what its origin makes of";
    match (fixed.as_slice(), left_out.as_slice()) {
        // A field that is written and not read.
        ([], []) => format!("{no_row} it is not known: use write-through"),
        ([], left_out) => {
            let left_out = left_out.join(", ");
            format!("{no_row} {left_out} is not known: give {left_out}, or use write-through")
        }
        (fixed, _) => {
            let fixed = fixed.join(", ");
            format!("{no_row} {fixed}, which no write gives, is not known: use write-through")
        }
    }
}

fn given<'a>(
    declared: &'a Declaration,
    texts: &'a [Option<String>],
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let pairs = declared.writable.iter().zip(texts);
    pairs.filter_map(|(field, text)| Some((field.as_str(), text.as_deref()?)))
}

fn as_json(key: &Key) -> Json {
    match key {
        Key::Integer(number) => Json::from(*number),
        Key::Text(text) => Json::from(text.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Example;

    fn shown(value: Option<Bytes>) -> Option<String> {
        value.map(|it| String::from_utf8(it.to_vec()).unwrap())
    }

    fn text(word: &str) -> Option<String> {
        Some(word.to_owned())
    }

    #[test]
    fn what_is_known_of_a_value_is_shown_and_nothing_else() {
        let mut users = Example::resources().remove("users").unwrap();
        let key = Key::Integer(7);
        let before = Bytes::from_static(br#"{"id":7,"name":"Ada","title":"Engineer"}"#);
        let title = [None, text("Countess")];
        assert_eq!(
            shown(over(&users, &key, Some(&before), &title)).unwrap(),
            r#"{"id":7,"name":"Ada","title":"Countess"}"#
        );
        assert_eq!(whole(&users, &key, &title), None);
        assert_eq!(
            shown(whole(&users, &key, &[text("Eve"), text("Spy")])).unwrap(),
            r#"{"id":7,"name":"Eve","title":"Spy"}"#
        );
        assert_eq!(
            shown(over(&users, &key, None, &title)).unwrap(),
            r#"{"id":7,"name":"User 7","title":"Countess"}"#
        );
        users.defaults.clear();
        assert_eq!(over(&users, &key, None, &title), None, "no defaults");
        users.fields.push("since".to_owned());
        let both = [text("Eve"), text("Spy")];
        assert_eq!(whole(&users, &key, &both), None, "a column is not known");
    }

    #[test]
    fn who_is_refused_hears_which_field_is_not_known() {
        let mut users = Example::resources().remove("users").unwrap();
        users.defaults.clear();
        let title = unknown(&users, &[text("Eve"), None]);
        assert!(title.contains("makes of title is not known: give title,"));
        let both = unknown(&users, &[None, None]);
        assert!(both.contains("give name, title, or use write-through"));
        users.fields.push("since".to_owned());
        for texts in [[text("Eve"), text("Spy")], [None, None]] {
            let since = unknown(&users, &texts);
            assert!(since.contains("makes of since, which no write gives,"));
            assert!(!since.contains("give "), "{since}");
        }
        users.fields.truncate(2);
        let unseen = unknown(&users, &[text("Eve"), text("Spy")]);
        assert!(unseen.contains("makes of it is not known: use"));
    }
}
