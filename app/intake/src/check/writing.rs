//! Which characters a text is written with: scripts, and characters that nobody sees.
//!
//! A mark that only some scripts use counts as one of theirs (Unicode's script extensions).

use unicode_security::mixed_script::AugmentedScriptSet;

/// Whether letters of scripts stand together that no language writes together (UTS 39). Latin beside
/// Chinese, Japanese or Korean is fine, as in its "highly restrictive" level; digits, marks and punctuation belong to all.
pub(super) fn mixes_scripts(text: &str) -> bool {
    if text.chars().all(is_plain_latin) || !AugmentedScriptSet::for_str(text).is_empty() {
        return false;
    }
    let mut others = AugmentedScriptSet::default();
    for other in text.chars().filter(|c| !is_latin(*c)) {
        others.intersect_with(AugmentedScriptSet::for_char(other));
    }
    !(others.hanb || others.jpan || others.kore)
}

/// Letters of Western Europe and Vietnam, combining marks, and ASCII: nearly every text, without a table.
fn is_plain_latin(c: char) -> bool {
    matches!(c, '\0'..='\u{7f}' | '\u{c0}'..='\u{24f}' | '\u{300}'..='\u{36f}' | '\u{1e00}'..='\u{1eff}')
}

/// Characters that change the direction of writing (UAX 9).
pub(super) fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters without a shape of their own: soft hyphen, zero-width characters, fillers, tags.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200d}'
            | '\u{2060}'..='\u{2064}'
            | '\u{206a}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Joiners that some scripts need between two letters: Persian and the Indic scripts, not Latin, Greek, Cyrillic or Chinese.
pub(super) fn needs_joiner(before: char) -> bool {
    !['A', 'Α', 'А', '中']
        .into_iter()
        .any(|letter| may_be_of_one_script(before, letter))
}

/// Digits, punctuation and marks of all scripts are of every one.
fn may_be_of_one_script(one: char, other: char) -> bool {
    let mut both = AugmentedScriptSet::for_char(one).base;
    both.intersect_with(AugmentedScriptSet::for_char(other).base);
    !both.is_empty()
}

fn is_latin(c: char) -> bool {
    AugmentedScriptSet::for_char(c) == AugmentedScriptSet::for_char('A')
}

/// Emoji and other pictures.
pub(super) fn is_picture(c: char) -> bool {
    matches!(
        c,
        '\u{20e3}' | '\u{2600}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}' | '\u{fe0f}' | '\u{1f000}'..='\u{1faff}'
    )
}

#[cfg(test)]
mod tests {
    use unicode_script::{Script, UnicodeScript as _};

    use super::*;

    #[test]
    fn letters_have_the_script_that_unicode_gives_them() {
        let marks = [Script::Common, Script::Inherited];
        for c in ('\0'..=char::MAX).filter(|c| !marks.contains(&c.script())) {
            assert_eq!(is_latin(c), c.script() == Script::Latin, "{c:?}");
            let joined_never = [Script::Latin, Script::Greek, Script::Cyrillic, Script::Han];
            assert_eq!(
                needs_joiner(c),
                !joined_never.contains(&c.script()),
                "{c:?}"
            );
        }
    }

    #[test]
    fn marks_of_one_script_count_as_its_letters_and_those_of_all_as_none() {
        for c in ['0', '-', ' ', '\u{301}', '\u{200d}', '\u{363}'] {
            assert!(!needs_joiner(c), "{c:?}");
        }
        // An Arabic vowel sign and the Indic danda.
        assert!(needs_joiner('\u{64e}') && needs_joiner('\u{964}'));
    }
}
