//! What was found: by verdict and by code, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use ratebox_intake::{Finding, Profile, RULESET, Verdict, codes};
use serde_json::{Value, json};

use super::super::figures::{self, grouped, percent};
use super::ValidateArgs;

/// Lines of malformed records that are named; a report names all.
const LINES_NAMED_MAX: usize = 10;

/// Figures of a file, or of a part of it.
#[derive(Debug, Default)]
pub(super) struct Summary {
    records: u64,
    failed: u64,
    codes: BTreeMap<u16, u64>,
    malformed: BTreeMap<&'static str, u64>,
    malformed_lines: Vec<u64>,
    /// Bytes read.
    pub(super) bytes: u64,
    /// Time from first to last record.
    pub(super) took: Duration,
}

impl Summary {
    /// Counts a verdict.
    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        self.records += 1;
        self.failed += u64::from(!verdict.errors.is_empty());
        for Finding { code, .. } in verdict.errors.iter().chain(&verdict.warnings) {
            *self.codes.entry(code.number).or_default() += 1;
        }
    }

    /// Counts a line that is no record.
    pub(super) fn malformed(&mut self, line: u64, slug: &'static str) {
        *self.malformed.entry(slug).or_default() += 1;
        if self.malformed_lines.len() < LINES_NAMED_MAX {
            self.malformed_lines.push(line);
        }
    }

    /// Adds the figures of a later part.
    pub(super) fn add(&mut self, part: &Self) {
        self.records += part.records;
        self.failed += part.failed;
        for (code, count) in &part.codes {
            *self.codes.entry(*code).or_default() += count;
        }
        for (slug, count) in &part.malformed {
            *self.malformed.entry(slug).or_default() += count;
        }
        let room = LINES_NAMED_MAX - self.malformed_lines.len();
        self.malformed_lines
            .extend(part.malformed_lines.iter().take(room));
    }

    /// Records with a verdict.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Records with the verdict DONE.
    pub(super) fn done(&self) -> u64 {
        self.records - self.failed
    }

    /// Records with the verdict ERROR, and lines that are no record.
    pub(super) fn failed(&self) -> u64 {
        self.failed + self.malformed_count()
    }

    fn malformed_count(&self) -> u64 {
        self.malformed.values().sum()
    }

    fn per_second(&self) -> u64 {
        figures::per_second(self.records + self.malformed_count(), self.took)
    }

    /// For people.
    pub(super) fn to_text(&self, profile: Profile, args: &ValidateArgs) -> String {
        let mut text = String::new();
        let seconds = self.took.as_secs_f64();
        let _ = writeln!(
            text,
            "{} records judged in {seconds:.2} s ({} a second), profile {}, rules {RULESET}\n",
            grouped(self.records()),
            grouped(self.per_second()),
            profile.word()
        );
        for (word, count) in [("DONE", self.done()), ("ERROR", self.failed)] {
            let share = percent(count, self.records);
            let _ = writeln!(text, "  {word:<10} {:>12} {share:>7}", grouped(count));
        }
        self.malformed_text(&mut text);
        if !self.codes.is_empty() {
            let _ = writeln!(
                text,
                "\n  {:>12}  code  severity  field         rule",
                "count"
            );
        }
        for (code, count) in self.known_codes() {
            let _ = writeln!(
                text,
                "  {:>12}  {:<4}  {:<8}  {:<12}  {}",
                grouped(count),
                code.number,
                code.severity(profile).word(),
                code.field,
                code.slug
            );
        }
        if let Some(report) = &args.report {
            let _ = writeln!(text, "\nWhat failed is in {}.", report.display());
        }
        text
    }

    fn malformed_text(&self, text: &mut String) {
        if self.malformed.is_empty() {
            return;
        }
        let lines: Vec<String> = self.malformed_lines.iter().map(u64::to_string).collect();
        let more = if self.malformed_count() > lines.len() as u64 {
            ", …"
        } else {
            ""
        };
        let lines = lines.join(", ");
        let count = grouped(self.malformed_count());
        let _ = writeln!(
            text,
            "  {:<10} {count:>12}  on lines {lines}{more}",
            "malformed"
        );
        for (slug, count) in &self.malformed {
            let _ = writeln!(text, "    {slug:<30} {}", grouped(*count));
        }
    }

    /// For scripts.
    pub(super) fn to_json(&self, profile: Profile, args: &ValidateArgs) -> Value {
        let codes: Vec<Value> = self
            .known_codes()
            .map(|(code, count)| {
                json!({ "code": code.number, "slug": code.slug, "field": code.field,
                    "severity": code.severity(profile).word(), "count": count })
            })
            .collect();
        json!({
            "file": args.file.display().to_string(),
            "profile": profile.word(),
            "ruleset": RULESET,
            "records": self.records(),
            "done": self.done(),
            "error": self.failed,
            "malformed": {
                "count": self.malformed_count(),
                "by_reason": self.malformed,
                "first_lines": self.malformed_lines,
            },
            "codes": codes,
            "bytes": self.bytes,
            "seconds": self.took.as_secs_f64(),
            "records_per_s": self.per_second(),
            "report": args.report.as_ref().map(|it| it.display().to_string()),
        })
    }

    fn known_codes(&self) -> impl Iterator<Item = (&'static ratebox_intake::Code, u64)> {
        codes().filter_map(|code| Some((code, *self.codes.get(&code.number)?)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ratebox_intake::{Item, Rules};

    use super::super::Format;
    use super::*;

    fn args() -> ValidateArgs {
        ValidateArgs {
            file: PathBuf::from("a.csv"),
            profile: None,
            report: Some(PathBuf::from("bad.csv")),
            format: Format::Auto,
            fail_on_error: false,
        }
    }

    fn summary() -> Summary {
        let good =
            Item::parse(br#"{"phone":"0912345678","bank_account":"0071000123456"}"#).unwrap();
        let bad = Item::parse(b"{}").unwrap();
        let (mut first, mut second) = (Summary::default(), Summary::default());
        first.verdict(&Rules::default().judge(&good));
        second.verdict(&Rules::default().judge(&bad));
        second.malformed(7, "json.malformed");
        first.add(&second);
        first.took = Duration::from_millis(2);
        first
    }

    #[test]
    fn the_summary_reads_like_this() {
        assert_eq!(
            summary().to_text(Profile::Classic, &args()),
            "2 records judged in 0.00 s (1,500 a second), profile classic, rules 1.0.0

  DONE                  1  50.0 %
  ERROR                 1  50.0 %
  malformed             1  on lines 7
    json.malformed                 1

         count  code  severity  field         rule
             1  100   error     phone         phone.required
             1  200   error     bank_account  bank.required
             1  610   warning   record        cross.no_contact

What failed is in bad.csv.
"
        );
    }

    #[test]
    fn scripts_get_the_same_figures() {
        let json = summary().to_json(Profile::Classic, &args());
        assert_eq!(
            (&json["records"], &json["done"], &json["error"]),
            (&2.into(), &1.into(), &1.into())
        );
        assert_eq!(
            (&json["malformed"]["count"], &json["codes"][0]["code"]),
            (&1.into(), &100.into())
        );
        assert_eq!(json["records_per_s"], 1500);
    }
}
