//! Names: what readers cannot see, what they could mistake, and what stands for nobody.

use ratebox_intake::Profile;

use crate::{NONE, errors, judge, warnings, with};

/// Normal form, errors and warnings under standard.
fn check(name: &str, normal: Option<&str>, error_codes: &[u16], warning_codes: &[u16]) {
    let verdict = judge(Profile::Standard, &with("name", name));
    assert_eq!(verdict.normalized.name.as_deref(), normal, "{name:?}");
    assert_eq!(errors(&verdict), error_codes, "{name:?}");
    assert_eq!(warnings(&verdict), warning_codes, "{name:?}");
}

#[test]
fn names_of_many_peoples_are_clean() {
    for name in [
        "Nguyễn Văn An",
        "Đặng Thị Ánh",
        "John O'Neill-Smith",
        "Jürgen Müller",
        "Łukasz Żak",
        "Иван Петров",
        "王小明",
        "田中 さくら",
        "김철수",
        "محمد علي",
        "राम कुमार",
        "สมชาย ใจดี",
        "Γιώργος",
        "Nguyen 阮",
        "می\u{200c}خواهم",
        "J. R. R. Tolkien",
    ] {
        check(name, Some(name), &[], &[]);
    }
}

#[test]
fn a_name_is_put_into_nfc_with_single_blanks() {
    let nfd = "Nguye\u{302}\u{303}n Va\u{306}n A";
    assert_eq!(nfd.chars().count(), 15);
    check(nfd, Some("Nguyễn Văn A"), &[], &[490]);
    check(
        "  Nguyễn \t Văn\u{a0}An\n",
        Some("Nguyễn Văn An"),
        &[],
        &[490],
    );
}

#[test]
fn bidi_and_control_characters_are_unsafe() {
    check(
        "Nguyễn \u{202e}nA năV",
        Some("Nguyễn nA năV"),
        &[420],
        &[490],
    );
    check("An\u{7}h", Some("Anh"), &[420], &[490]);
    check("\u{2066}An\u{2069}", Some("An"), &[420], &[490]);
    assert_eq!(
        errors(&judge(Profile::Classic, &with("name", "An\u{202e}h"))),
        NONE
    );
    assert_eq!(
        warnings(&judge(Profile::Classic, &with("name", "An\u{202e}h"))),
        [420, 490]
    );
}

#[test]
fn invisible_characters_are_unsafe() {
    check("Nguyễn\u{200b} An", Some("Nguyễn An"), &[441], &[490]);
    check("\u{feff}An", Some("An"), &[441], &[490]);
    check("A\u{ad}n", Some("An"), &[441], &[490]);
    check("Ng\u{200d}a", Some("Ng\u{200d}a"), &[441], &[]);
    check("\u{3164}\u{3164}", None, &[441], &[443, 490]);
}

#[test]
fn letters_of_two_scripts_are_noticed() {
    check("Nguуễn Văn An", Some("Nguуễn Văn An"), &[], &[440]);
    check("Αnna", Some("Αnna"), &[], &[440]);
    assert_eq!(
        errors(&judge(Profile::Strict, &with("name", "Nguуễn Văn An"))),
        [440]
    );
}

#[test]
fn digits_pictures_and_placeholders_are_noticed() {
    check("Nguyễn Văn 3", Some("Nguyễn Văn 3"), &[], &[442]);
    check("Anh 😀", Some("Anh 😀"), &[], &[442]);
    check("0912345678", Some("0912345678"), &[], &[442, 443]);
    check("test", Some("test"), &[], &[443]);
    check("Không Rõ", Some("Không Rõ"), &[], &[443]);
    check("xxx", Some("xxx"), &[], &[443]);
    check("--", Some("--"), &[], &[443]);
    check("  ", None, &[], &[443, 490]);
}

#[test]
fn a_long_name_is_counted_as_readers_see_it() {
    let long = "An ".repeat(100);
    check(long.trim_end(), Some(long.trim_end()), &[421], &[]);
    let marked = "e\u{302}\u{301}".repeat(150);
    let verdict = judge(Profile::Standard, &with("name", &marked));
    assert!(!errors(&verdict).contains(&421));
}
