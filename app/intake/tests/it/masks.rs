//! Masking: enough is left to recognise a value, too little to learn it.

use ratebox_intake::{
    mask_bank_account, mask_email, mask_json, mask_message, mask_name, mask_phone,
};

use crate::Dice;

#[test]
fn each_field_has_its_own_mask() {
    assert_eq!(mask_phone("0912345678"), "***78");
    assert_eq!(mask_phone("12"), "***");
    assert_eq!(mask_bank_account("0071000123456"), "***3456");
    assert_eq!(mask_bank_account("0071000123456789"), "***6789");
    assert_eq!(mask_bank_account("1234"), "***4");
    assert_eq!(mask_email("nguyen.van.an@example.com"), "n***@example.com");
    assert_eq!(mask_email("a@example.com"), "***@example.com");
    assert_eq!(mask_email("nothing"), "***");
    assert_eq!(mask_name("Nguyễn Văn An"), "N. V. A.");
    assert_eq!(mask_name(" "), "***");
}

#[test]
fn json_keeps_its_structure_and_loses_its_values() {
    let masked = mask_json(
        r#"{"phone":"0912345678", "bank_account" : 71000123456,"email":"an@example.com","name":"An \"Ba\"","ok":true,"no":null,
            "metadata":{"views":12,"phone":"0987654321","list":["secret",1.5e3]},"0912345678":"x","empty":""}"#,
    );
    assert_eq!(
        masked,
        r#"{"phone":"***78", "bank_account" : "***456","email":"a***@example.com","name":"A. \".","ok":true,"no":null,
            "metadata":{"views":"***","phone":"***21","list":["***","***"]},"***78":"***","empty":""}"#
    );
    assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok());
}

#[test]
fn what_is_no_json_is_masked_as_text() {
    assert_eq!(mask_json("{phone: 0912345678"), "{phone: ***78");
}

#[test]
fn messages_lose_what_looks_personal() {
    assert_eq!(
        mask_message("Invalid email format: nguyen.an at example.com"),
        "Invalid email format: ***"
    );
    assert_eq!(
        mask_message("Invalid email format: an@x@example"),
        "Invalid email format: a***@example"
    );
    assert_eq!(
        mask_message("Phone number too short: 3 chars, minimum 10"),
        "Phone number too short: 3 chars, minimum 10"
    );
    assert_eq!(
        mask_message("call 0912 345 678, or +84 (0)912-345-678."),
        "call ***78, or ***78."
    );
    assert_eq!(
        mask_message("to DE89370400440532013000 from an@example.com"),
        "to *** from a***@example.com"
    );
    assert_eq!(
        mask_message("key (phone)=(0912345678) exists"),
        "key (phone)=***78) exists"
    );
    assert_eq!(mask_message("số ０９１２３４５６７８"), "số ***７８");
}

#[test]
fn ids_stay_readable() {
    for text in [
        "request 01942f3c-9a10-7abc-8def-0123456789ab failed",
        "entry 1736000000000-0 on raw_items",
        "code 300, 12 times",
    ] {
        assert_eq!(mask_message(text), text);
    }
}

#[test]
fn no_number_or_address_survives_in_a_text() {
    let mut dice = Dice(5);
    for _ in 0..5_000 {
        let digits = dice.digits(10);
        let (a, b) = digits.split_at(4);
        let separator = dice.pick(&["", " ", "-", ".", "/"]);
        let before = dice.pick(&["", "x ", "(", "số:", "=\"", "[", "ễ"]);
        let text = format!(
            "{before}{a}{separator}{b}{}",
            dice.pick(&["", " y", ")", "\"", ",1"])
        );
        let masked: String = mask_message(&text)
            .chars()
            .filter(char::is_ascii_digit)
            .collect();
        assert!(masked.len() <= 3, "{text} became {masked}");
    }
}
