//! The page of all codes, `docs/Codes.md`.

use std::fmt::Write;

use super::{Code, Severity, codes};
use crate::profile::RULESET;

const HEAD: &str = "# Verdict codes

<!-- Made by `cargo run -p ratebox-intake --example codes > docs/Codes.md`; do not edit by hand. -->

What the rules can say about an item. A number never changes its meaning. The hundreds are the fields: 1xx phone,
2xx bank account, 3xx e-mail, 4xx name, 5xx the record, 6xx across fields, 9xx the system, which is never blamed on the data.
Within a hundred: x00 the six rules, x10 presence and type, x20 syntax, x40 meaning, x60 reputation,
x70 external checks, x80 duplicates, x90 information.

";

const RULES: &str = "
An item is ERROR when at least one finding is an *error* under the profile that was used; `error_code` is the first of
them in the order phone, bank account, e-mail, name, record. Warnings and information never change the verdict; they are in
`details.warnings` with their slug, severity and parameters. *Reserved* codes are not raised by the rules themselves.

`confidence` is 0.95 less the weights of the warnings, and at least 0.05. It is computed in the same way for DONE and
ERROR: it says how clean the record is, and errors do not lower it further. 1.00 is kept for records that somebody
outside has confirmed.

311 is only looked at where e-mail is configured as required. Messages hold a value of the item only where `{…}`
stands in the list. A field that breaks one of the six rules is not looked at further, but it is normalised where that is possible.
A record that repeats an earlier one in all four fields is 520, and not 180, 280 and 380 as well.
";

/// The page of all codes as Markdown.
pub fn codes_page() -> String {
    let mut page = String::from(HEAD);
    let _ = writeln!(page, "Rule set {RULESET}.");
    page.push_str(RULES);
    page.push_str(
        "\n| Code | Slug | Field | classic | standard | strict | Weight | Parameters | Message |\n",
    );
    page.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for code in codes() {
        push_row(code, &mut page);
    }
    page
}

fn push_row(code: &Code, page: &mut String) {
    let severities = [code.classic, code.standard, code.strict]
        .map(Severity::word)
        .join(" | ");
    let severities = if code.reserved {
        "reserved | reserved | reserved".to_owned()
    } else {
        severities
    };
    let weight = if code.weight == 0 {
        String::new()
    } else {
        format!("0.{:02}", code.weight)
    };
    let (number, slug, field, message) = (code.number, code.slug, code.field, code.message);
    let params = code.params.join(", ");
    let _ = writeln!(
        page,
        "| {number} | {slug} | {field} | {severities} | {weight} | {params} | {message} |"
    );
}
