//! The list of codes. Numbers never change their meaning; new codes fill free numbers of the same hundred:
//! x00 the six rules, x10 presence and type, x20 syntax, x40 meaning, x60 reputation, x70 external checks,
//! x80 duplicates, x90 information; 5xx the record, 6xx across fields, 9xx the system.

use super::Code;
use super::Severity::{self, Error, Info, Warning};

/// Declares every code once, as a constant and as a row of the list.
macro_rules! codes {
    ($($name:ident = $code:expr;)*) => {
        $(pub(crate) static $name: Code = $code;)*
        static ALL: &[&Code] = &[$(&$name),*];
    };
}

/// Every code, in ascending order of numbers.
pub fn codes() -> impl ExactSizeIterator<Item = &'static Code> {
    ALL.iter().copied()
}

codes! {
    PHONE_REQUIRED = error(100, "phone.required", "phone", "Phone number is required");
    PHONE_UNDER_TEN = error(101, "phone.under_ten_characters", "phone", "Phone number too short: {n} chars, minimum 10").with(&["got", "min"]);
    PHONE_WRONG_TYPE = error(110, "phone.wrong_type", "phone", "Phone number must be a string").with(&["got"]);
    PHONE_NOT_A_NUMBER = from_standard(120, 30, "phone.not_a_number", "phone", "Phone number cannot be read");
    PHONE_TOO_LONG = from_standard(121, 25, "phone.too_long", "phone", "Phone number has too many digits");
    PHONE_EXTENSION = info(122, "phone.extension_present", "phone", "Phone number has an extension, which is left out of the normalised form");
    PHONE_TOO_SHORT = from_standard(123, 25, "phone.too_short", "phone", "Phone number has too few digits");
    PHONE_UNASSIGNED = from_standard(140, 20, "phone.unassigned_range", "phone", "Phone number is in a range that is not in use");
    PHONE_REGION = warning(141, 3, "phone.region_mismatch", "phone", "Phone number belongs to another country").with(&["calling_code"]);
    PHONE_TYPE = strict_only(142, 5, "phone.type_not_allowed", "phone", "Phone number is not a mobile number").with(&["type"]);
    PHONE_OBSOLETE = from_standard(143, 15, "phone.obsolete_numbering", "phone", "Phone number has an old prefix, which was replaced in 2018").with(&["old_prefix", "new_prefix"]);
    PHONE_LIKE_ACCOUNT = warning(144, 5, "phone.looks_like_account", "phone", "Phone number looks like a bank account");
    PHONE_DUPLICATE = warning(180, 10, "phone.duplicate_in_request", "phone", "Phone number was in an earlier item of the request").with(&["first_item_no"]);
    PHONE_NORMALISED = info(190, "phone.normalised", "phone", "Phone number was cleaned before it was read");

    BANK_REQUIRED = error(200, "bank.required", "bank_account", "Bank account is required");
    BANK_UNDER_EIGHT = error(201, "bank.under_eight_characters", "bank_account", "Bank account too short: {n} chars, minimum 8").with(&["got", "min"]);
    BANK_WRONG_TYPE = error(210, "bank.wrong_type", "bank_account", "Bank account must be a string").with(&["got"]);
    BANK_CHARACTERS = from_standard(220, 20, "bank.bad_characters", "bank_account", "Bank account has characters that are neither digits nor Latin letters");
    BANK_TOO_LONG = from_standard(221, 20, "bank.too_long", "bank_account", "Bank account has too many characters").with(&["got", "max"]);
    BANK_TOO_SHORT = from_standard(222, 20, "bank.too_short", "bank_account", "Bank account has too few digits").with(&["got", "min"]);
    BANK_IBAN_CHECKSUM = from_standard(240, 30, "bank.iban_checksum", "bank_account", "IBAN has wrong check digits").with(&["country"]);
    BANK_IBAN_FORM = from_standard(241, 25, "bank.iban_country_length", "bank_account", "IBAN does not have the length or form of its country").with(&["country", "got", "expected"]);
    BANK_UNKNOWN = warning(242, 5, "bank.unknown_bank", "bank_account", "Bank is not known");
    BANK_LENGTH = warning(243, 5, "bank.length_unusual_for_bank", "bank_account", "Bank account has an unusual length for its bank").with(&["bin", "got"]);
    BANK_LIKE_PHONE = warning(244, 2, "bank.looks_like_phone", "bank_account", "Bank account looks like a phone number");
    BANK_VERIFIED = info(270, "bank.verify_match", "bank_account", "Bank confirms the holder").reserved();
    BANK_HOLDER_DIFFERS = warning(271, 30, "bank.verify_mismatch", "bank_account", "Bank names another holder").reserved();
    BANK_UNVERIFIED = info(272, "bank.verify_unavailable", "bank_account", "Bank could not be asked").reserved();
    BANK_CLOSED = warning(273, 30, "bank.verify_closed", "bank_account", "Bank account is closed").reserved();
    BANK_DUPLICATE = warning(280, 10, "bank.duplicate_in_request", "bank_account", "Bank account was in an earlier item of the request").with(&["first_item_no"]);
    BANK_NORMALISED = info(290, "bank.normalised", "bank_account", "Bank account was cleaned before it was read");

    EMAIL_FORMAT = error(300, "email.invalid_format", "email", "Invalid email format: {email}");
    EMAIL_WRONG_TYPE = error(310, "email.wrong_type", "email", "Email must be a string").with(&["got"]);
    EMAIL_MISSING = from_standard(311, 5, "email.missing", "email", "Email is required");
    EMAIL_LOCAL_PART = from_standard(320, 25, "email.local_part", "email", "Email has an invalid part before the @");
    EMAIL_DOMAIN = from_standard(321, 25, "email.domain_syntax", "email", "Email has an invalid domain");
    EMAIL_TOO_LONG = from_standard(322, 20, "email.too_long", "email", "Email is too long").with(&["got", "max"]);
    EMAIL_NO_SUFFIX = from_standard(340, 20, "email.no_public_suffix", "email", "Email domain does not end in a public suffix");
    EMAIL_SPECIAL_USE = from_standard(341, 20, "email.special_use_domain", "email", "Email domain is reserved and cannot receive mail");
    EMAIL_MIXED_SCRIPT = strict_only(342, 15, "email.mixed_script", "email", "Email mixes letters of several scripts");
    EMAIL_DISPOSABLE = strict_only(360, 20, "email.disposable", "email", "Email domain gives out throw-away addresses");
    EMAIL_ROLE = info(361, "email.role_account", "email", "Email belongs to a role, not to a person");
    EMAIL_NO_MX = warning(370, 20, "email.no_mx", "email", "Email domain takes no mail").reserved();
    EMAIL_MX_UNKNOWN = info(371, "email.mx_unknown", "email", "Email domain could not be asked").reserved();
    EMAIL_DUPLICATE = warning(380, 10, "email.duplicate_in_request", "email", "Email was in an earlier item of the request").with(&["first_item_no"]);
    EMAIL_NORMALISED = info(390, "email.normalised", "email", "Email was cleaned before it was read");

    NAME_UNDER_TWO = error(400, "name.under_two_characters", "name", "Name must be at least 2 characters").with(&["got", "min"]);
    NAME_WRONG_TYPE = error(410, "name.wrong_type", "name", "Name must be a string").with(&["got"]);
    NAME_CONTROL = from_standard(420, 25, "name.control_or_bidi", "name", "Name has control characters or changes the writing direction");
    NAME_TOO_LONG = from_standard(421, 10, "name.too_long", "name", "Name is too long").with(&["got", "max"]);
    NAME_MIXED_SCRIPT = strict_only(440, 15, "name.mixed_script", "name", "Name mixes letters of several scripts");
    NAME_INVISIBLE = from_standard(441, 20, "name.invisible", "name", "Name has invisible characters");
    NAME_DIGITS = warning(442, 5, "name.digits_or_emoji", "name", "Name has digits or emoji");
    NAME_PLACEHOLDER = warning(443, 15, "name.placeholder", "name", "Name stands for no person");
    NAME_NORMALISED = info(490, "name.normalised", "name", "Name was cleaned before it was read");

    RECORD_NOT_OBJECT = error(500, "record.not_an_object", "record", "Record must be a JSON object").with(&["got"]);
    RECORD_UNKNOWN_FIELD = info(501, "record.unknown_field", "record", "Record has a field that no rule knows").reserved();
    RECORD_TOO_MANY = error(502, "record.too_many_items", "record", "Request has too many items").reserved();
    RECORD_SCHEMA = error(510, "record.schema", "record", "Record does not fit its schema").reserved();
    RECORD_DUPLICATE = warning(520, 15, "record.duplicate", "record", "Record is the same as an earlier item of the request").with(&["first_item_no"]);
    RECORD_DECRYPT = error(530, "record.decrypt_failed", "record", "Record could not be decrypted").reserved();
    RECORD_ERASED = info(590, "record.erased", "record", "Record was erased").reserved();

    CROSS_OWNER = warning(600, 15, "cross.owner_name_mismatch", "record", "Account holder and name differ").reserved();
    CROSS_NO_CONTACT = warning(610, 10, "cross.no_contact", "record", "Record has no phone number, bank account or email");

    SYSTEM_TIMEOUT = error(900, "system.timeout", "system", "Took too long").reserved();
    SYSTEM_DEPENDENCY = error(901, "system.dependency", "system", "A part that was needed did not answer").reserved();
    SYSTEM_RETRIES = error(910, "system.retries_exhausted", "system", "Failed too often").reserved();
    SYSTEM_CANCELLED = error(920, "system.cancelled", "system", "Was cancelled").reserved();
    SYSTEM_DEAD = error(930, "system.dead_lettered", "system", "Was put among the dead letters").reserved();
}

/// An error in every profile.
const fn error(
    number: u16,
    slug: &'static str,
    field: &'static str,
    message: &'static str,
) -> Code {
    new(number, 0, [Error, Error, Error], [slug, field, message])
}

/// A warning under classic, an error under standard and strict.
const fn from_standard(
    number: u16,
    weight: u8,
    slug: &'static str,
    field: &'static str,
    message: &'static str,
) -> Code {
    new(
        number,
        weight,
        [Warning, Error, Error],
        [slug, field, message],
    )
}

/// A warning under classic and standard, an error under strict.
const fn strict_only(
    number: u16,
    weight: u8,
    slug: &'static str,
    field: &'static str,
    message: &'static str,
) -> Code {
    new(
        number,
        weight,
        [Warning, Warning, Error],
        [slug, field, message],
    )
}

/// A warning in every profile.
const fn warning(
    number: u16,
    weight: u8,
    slug: &'static str,
    field: &'static str,
    message: &'static str,
) -> Code {
    new(
        number,
        weight,
        [Warning, Warning, Warning],
        [slug, field, message],
    )
}

/// An information in every profile.
const fn info(number: u16, slug: &'static str, field: &'static str, message: &'static str) -> Code {
    new(number, 0, [Info, Info, Info], [slug, field, message])
}

const fn new(number: u16, weight: u8, severities: [Severity; 3], texts: [&'static str; 3]) -> Code {
    let [classic, standard, strict] = severities;
    let [slug, field, message] = texts;
    Code {
        number,
        slug,
        field,
        classic,
        standard,
        strict,
        weight,
        message,
        params: &[],
        reserved: false,
    }
}

impl Code {
    const fn with(mut self, params: &'static [&'static str]) -> Self {
        self.params = params;
        self
    }

    const fn reserved(mut self) -> Self {
        self.reserved = true;
        self
    }
}
