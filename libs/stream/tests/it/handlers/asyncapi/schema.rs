//! As much of JSON Schema draft 7 as the schema of AsyncAPI uses. A keyword that is not known here
//! is an error of the test, so nothing is passed over in silence.

use serde_json::{Map, Value};

/// Says nothing of whether a value fits.
const SILENT: [&str; 15] = [
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "definitions",
    "additionalItems",
    "format",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "contentEncoding",
    "then",
];

/// What does not fit, each with its place.
pub(super) fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut check = Check {
        root: schema,
        found: Vec::new(),
    };
    check.value(schema, value, "");
    check.found
}

struct Check<'a> {
    root: &'a Value,
    found: Vec<String>,
}

impl Check<'_> {
    fn fits(&self, schema: &Value, value: &Value, place: &str) -> bool {
        let mut inner = Check {
            root: self.root,
            found: Vec::new(),
        };
        inner.value(schema, value, place);
        inner.found.is_empty()
    }

    fn value(&mut self, schema: &Value, value: &Value, place: &str) {
        let rules = match schema {
            Value::Bool(true) => return,
            Value::Object(rules) => rules,
            _ => return self.wrong(place, "nothing is allowed here"),
        };
        if let Some(reference) = rules.get("$ref").and_then(Value::as_str) {
            let target = self.root.pointer(reference.trim_start_matches('#'));
            return self.value(
                target.unwrap_or_else(|| panic!("no {reference}")),
                value,
                place,
            );
        }
        for (keyword, rule) in rules {
            self.keyword(rules, keyword, rule, value, place);
        }
    }

    fn keyword(
        &mut self,
        rules: &Map<String, Value>,
        keyword: &str,
        rule: &Value,
        value: &Value,
        place: &str,
    ) {
        let all = |rule: &Value| rule.as_array().cloned().unwrap_or_default();
        let fits = |schema: &&Value| self.fits(schema, value, place);
        let holds = match keyword {
            "type" => all(rule).iter().chain([rule]).any(|name| is_a(name, value)),
            "const" => rule == value,
            "enum" => all(rule).contains(value),
            "allOf" => {
                all(rule)
                    .iter()
                    .for_each(|schema| self.value(schema, value, place));
                true
            }
            "anyOf" => all(rule).iter().any(|schema| fits(&schema)),
            "oneOf" => all(rule).iter().filter(fits).count() == 1,
            "not" => !fits(&rule),
            "if" => {
                let branch = rules.get(if fits(&rule) { "then" } else { "else" });
                branch
                    .into_iter()
                    .for_each(|schema| self.value(schema, value, place));
                true
            }
            "else" => rules.contains_key("if"),
            "required" => value.as_object().is_none_or(|fields| {
                all(rule)
                    .iter()
                    .all(|name| fields.contains_key(name.as_str().unwrap()))
            }),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    // A list of rules is for the first items, each its own.
                    let rule = rule.as_array().map_or(Some(rule), |rules| rules.get(index));
                    if let Some(rule) = rule {
                        self.value(rule, item, &format!("{place}/{index}"));
                    }
                }
                true
            }
            "properties" | "patternProperties" | "additionalProperties" | "propertyNames" => {
                if let Some(fields) = value.as_object() {
                    self.fields(rules, keyword, rule, fields, place);
                }
                true
            }
            silent if SILENT.contains(&silent) => true,
            other => is_within(other, rule, value)
                .unwrap_or_else(|| panic!("this check does not know `{other}` ({place})")),
        };
        if !holds {
            self.wrong(place, &format!("{keyword}: {}", short(rule)));
        }
    }

    fn fields(
        &mut self,
        rules: &Map<String, Value>,
        keyword: &str,
        rule: &Value,
        fields: &Map<String, Value>,
        place: &str,
    ) {
        let named = rules.get("properties").and_then(Value::as_object);
        let patterns = rules.get("patternProperties").and_then(Value::as_object);
        for (name, value) in fields {
            let place = format!("{place}/{name}");
            let is_named = named.is_some_and(|named| named.contains_key(name));
            let has_pattern =
                patterns.is_some_and(|it| it.keys().any(|pattern| matches(pattern, name)));
            match keyword {
                "properties" if is_named => self.value(&rule[name], value, &place),
                "patternProperties" => {
                    for (pattern, schema) in rule.as_object().into_iter().flatten() {
                        if matches(pattern, name) {
                            self.value(schema, value, &place);
                        }
                    }
                }
                "additionalProperties" if !is_named && !has_pattern => {
                    self.value(rule, value, &place)
                }
                "propertyNames" => self.value(rule, &Value::from(name.as_str()), &place),
                _ => {}
            }
        }
    }

    fn wrong(&mut self, place: &str, what: &str) {
        self.found.push(format!("{place}: {what}"));
    }
}

/// Whether a size or a number is within a bound; `None` when the keyword is no bound.
fn is_within(keyword: &str, rule: &Value, value: &Value) -> Option<bool> {
    let bound = rule.as_f64().unwrap_or_default();
    let (number, text, items) = (value.as_f64(), value.as_str(), value.as_array());
    Some(match keyword {
        "minimum" => number.is_none_or(|number| number >= bound),
        "exclusiveMinimum" => number.is_none_or(|number| number > bound),
        "maximum" => number.is_none_or(|number| number <= bound),
        "minLength" => text.is_none_or(|text| text.chars().count() as f64 >= bound),
        "maxLength" => text.is_none_or(|text| text.chars().count() as f64 <= bound),
        "minItems" => items.is_none_or(|items| items.len() as f64 >= bound),
        "uniqueItems" => items.is_none_or(|items| {
            (1..items.len()).all(|index| !items[..index].contains(&items[index]))
        }),
        _ => return None,
    })
}

fn is_a(name: &Value, value: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        _ => false,
    }
}

/// The patterns that the schema has for names.
fn matches(pattern: &str, name: &str) -> bool {
    let is_word = |text: &str| {
        let allowed = |letter: char| letter.is_alphanumeric() || "._-".contains(letter);
        !text.is_empty() && text.chars().all(allowed)
    };
    match pattern {
        r"^x-[\w\d\.\x2d_]+$" => name.strip_prefix("x-").is_some_and(is_word),
        r"^[\w\d\.\-_]+$" => is_word(name),
        "^x-" => name.starts_with("x-"),
        r"^\$ref$" => name == "$ref",
        other => panic!("this check does not know the pattern {other}"),
    }
}

fn short(rule: &Value) -> String {
    rule.to_string().chars().take(80).collect()
}
