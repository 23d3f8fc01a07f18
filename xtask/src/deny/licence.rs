//! Licence expressions (SPDX): names, `AND`, `OR`, `WITH` and parentheses; a slash is an old `OR`.

/// Whether the licences that `allowed` accepts satisfy an expression. What is no expression is not
/// satisfied. A licence with an exception (`A WITH B`) is one name.
pub(super) fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut parser = Parser {
        words: spaced.split_whitespace().collect(),
        at: 0,
        allowed,
    };
    let verdict = parser.alternatives();
    verdict == Some(true) && parser.at == parser.words.len()
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
    allowed: &'a dyn Fn(&str) -> bool,
}

impl<'a> Parser<'a> {
    fn alternatives(&mut self) -> Option<bool> {
        let mut one = self.conjunction()?;
        while self.take("OR") {
            one |= self.conjunction()?;
        }
        Some(one)
    }

    fn conjunction(&mut self) -> Option<bool> {
        let mut all = self.term()?;
        while self.take("AND") {
            all &= self.term()?;
        }
        Some(all)
    }

    fn term(&mut self) -> Option<bool> {
        if self.take("(") {
            let inside = self.alternatives()?;
            return self.take(")").then_some(inside);
        }
        let name = self.name()?;
        if self.take("WITH") {
            let exception = self.name()?;
            return Some((self.allowed)(&format!("{name} WITH {exception}")));
        }
        Some((self.allowed)(name))
    }

    fn name(&mut self) -> Option<&'a str> {
        let word = *self.words.get(self.at)?;
        self.at += 1;
        (!matches!(word, "AND" | "OR" | "WITH" | "(" | ")")).then_some(word)
    }

    fn take(&mut self, word: &str) -> bool {
        let here = self.words.get(self.at) == Some(&word);
        self.at += usize::from(here);
        here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_judged_with_and_before_or() {
        let allowed = |name: &str| matches!(name, "MIT" | "Zlib" | "A WITH B");
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND GPL-3.0", false),
            ("MIT AND Zlib", true),
            ("(MIT OR GPL-3.0) AND Zlib", true),
            ("MIT OR Zlib AND GPL-3.0", true),
            ("(MIT OR Zlib) AND GPL-3.0", false),
            ("A WITH B", true),
            ("A WITH C", false),
            ("MIT WITH C", false),
            ("", false),
            ("MIT OR", false),
            ("MIT MIT", false),
            ("(MIT", false),
        ] {
            assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
        }
    }
}
