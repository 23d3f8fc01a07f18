//! Makes the shipped samples, the same on every run. Nobody in them exists: names are put together from lists,
//! numbers are random, and mail domains are reserved for examples or well known for throw-away addresses.
//!
//! ```text
//! cargo run -p ratebox-intake --example make_reports reports > examples/reports.csv
//! cargo run -p ratebox-intake --example make_reports legacy > examples/legacy.ndjson
//! ```
//!
//! `reports` is a file of reports as a crawler leaves it: two thirds are clean, every third record has one fault of
//! the list below. `legacy` holds entries of the bus in the three shapes of older producers, one JSON object of flat
//! fields a line.

use std::fmt::Write;

const REPORTS: usize = 2_400;
const LEGACY: usize = 60;

fn main() {
    match std::env::args().nth(1).as_deref() {
        None | Some("reports") => print!("{}", reports()),
        Some("legacy") => print!("{}", legacy()),
        Some(_) => eprintln!("usage: make_reports [reports|legacy]"),
    }
}

// === Records ===

/// One report.
#[derive(Clone, Default)]
struct Report {
    name: String,
    phone: String,
    bank_account: String,
    email: String,
    source: String,
    reported_date: String,
    description: String,
    bank_name: String,
    amount: String,
    category: String,
}

const COLUMNS: &str =
    "name,phone,bank_account,email,source,reported_date,description,bank_name,amount,category";

/// Family, middle and given names, each with its spelling in mail addresses.
const FAMILY: [(&str, &str); 12] = [
    ("Nguyễn", "nguyen"),
    ("Trần", "tran"),
    ("Lê", "le"),
    ("Phạm", "pham"),
    ("Hoàng", "hoang"),
    ("Huỳnh", "huynh"),
    ("Phan", "phan"),
    ("Vũ", "vu"),
    ("Võ", "vo"),
    ("Đặng", "dang"),
    ("Bùi", "bui"),
    ("Đỗ", "do"),
];
const MIDDLE: [(&str, &str); 8] = [
    ("Văn", "van"),
    ("Thị", "thi"),
    ("Minh", "minh"),
    ("Đức", "duc"),
    ("Ngọc", "ngoc"),
    ("Quang", "quang"),
    ("Thu", "thu"),
    ("Thanh", "thanh"),
];
const GIVEN: [(&str, &str); 16] = [
    ("An", "an"),
    ("Bình", "binh"),
    ("Cường", "cuong"),
    ("Dũng", "dung"),
    ("Hà", "ha"),
    ("Hải", "hai"),
    ("Hương", "huong"),
    ("Khánh", "khanh"),
    ("Lan", "lan"),
    ("Linh", "linh"),
    ("Long", "long"),
    ("Mai", "mai"),
    ("Nam", "nam"),
    ("Phương", "phuong"),
    ("Thảo", "thao"),
    ("Tuấn", "tuan"),
];
const FOREIGN: [(&str, &str); 10] = [
    ("John Smith", "john.smith"),
    ("Maria García", "maria.garcia"),
    ("Jürgen Müller", "j.mueller"),
    ("Yuki Tanaka", "yuki"),
    ("김민수", "minsu.kim"),
    ("王小明", "xiaoming.wang"),
    ("Иван Петров", "i.petrov"),
    ("Somchai Jaidee", "somchai"),
    ("Anne-Marie O'Neill", "am.oneill"),
    ("Ahmad bin Ismail", "ahmad"),
];
const MOBILE: [&str; 12] = [
    "032", "033", "035", "038", "039", "070", "079", "083", "086", "090", "091", "098",
];
/// Banks with a usual length of their accounts.
const BANKS: [(&str, usize); 10] = [
    ("Vietcombank", 13),
    ("Techcombank", 14),
    ("BIDV", 14),
    ("VietinBank", 12),
    ("Agribank", 13),
    ("MBBank", 13),
    ("ACB", 8),
    ("TPBank", 11),
    ("Sacombank", 12),
    ("VPBank", 9),
];
const DOMAINS: [&str; 5] = [
    "example.com",
    "example.org",
    "example.net",
    "example.vn",
    "mail.example.com",
];
const DISPOSABLE: [&str; 5] = [
    "mailinator.com",
    "yopmail.com",
    "10minutemail.com",
    "guerrillamail.com",
    "trashmail.com",
];
const SOURCES: [&str; 5] = [
    "checkscam_crawler",
    "browser_extension",
    "importer",
    "hotline",
    "partner_api",
];
const STORIES: [(&str, &str); 8] = [
    ("Chuyển khoản đặt cọc rồi chặn liên lạc", "sales"),
    ("Mời góp vốn, hứa lãi 3% mỗi ngày", "investment"),
    ("Giả danh nhân viên ngân hàng xin mã OTP", "other"),
    ("Bán điện thoại, giao hàng giả", "sales"),
    ("Tuyển cộng tác viên, thu phí \"giữ chỗ\"", "job"),
    ("Cho vay nhanh, thu phí hồ sơ trước", "loan"),
    ("Asked for a deposit, then vanished", "sales"),
    ("Bán tài khoản game, không giao", "game"),
];

fn report(dice: &mut Dice) -> Report {
    let (name, mailbox) = person(dice);
    let (bank_name, length) = BANKS[dice.roll(BANKS.len())];
    let (description, category) = STORIES[dice.roll(STORIES.len())];
    let domain = dice.pick(&DOMAINS);
    Report {
        name,
        phone: phone(dice),
        bank_account: account(dice, length),
        email: if dice.roll(6) == 0 {
            String::new()
        } else {
            format!("{mailbox}{}@{domain}", dice.roll(90) + 10)
        },
        source: dice.pick(&SOURCES).to_owned(),
        reported_date: format!("2025-{:02}-{:02}", dice.roll(12) + 1, dice.roll(28) + 1),
        description: description.to_owned(),
        bank_name: if dice.roll(2) == 0 {
            bank_name.to_owned()
        } else {
            String::new()
        },
        amount: ((dice.roll(2_000) + 1) * 50_000).to_string(),
        category: category.to_owned(),
    }
}

fn person(dice: &mut Dice) -> (String, String) {
    if dice.roll(8) == 0 {
        let (name, mailbox) = FOREIGN[dice.roll(FOREIGN.len())];
        return (name.to_owned(), mailbox.to_owned());
    }
    let parts = [
        FAMILY[dice.roll(FAMILY.len())],
        MIDDLE[dice.roll(MIDDLE.len())],
        GIVEN[dice.roll(GIVEN.len())],
    ];
    (
        parts.map(|part| part.0).join(" "),
        parts.map(|part| part.1).join("."),
    )
}

/// A mobile number in one of the ways in which people write it.
fn phone(dice: &mut Dice) -> String {
    let (prefix, middle, end) = (dice.pick(&MOBILE), dice.digits(3), dice.digits(4));
    match dice.roll(8) {
        0 => format!("{prefix}{middle}{end}"),
        1 => format!("+84{}{middle}{end}", &prefix[1..]),
        2 => format!("84{}{middle}{end}", &prefix[1..]),
        3 => format!("{prefix} {middle} {end}"),
        4 => format!("{prefix}.{middle}.{end}"),
        5 => format!("+84 {} {middle} {end}", &prefix[1..]),
        _ => format!("{prefix}{middle}{end}"),
    }
}

/// Digits that neither begin like a card nor look like a phone number.
fn account(dice: &mut Dice, length: usize) -> String {
    format!("1{}", dice.digits(length - 1))
}

// === Faults ===

/// What can be wrong with a report; every one of them comes up many times.
const FAULTS: [fn(&mut Report, &mut Dice); 58] = [
    // The six rules.
    |r, _| r.phone.clear(),
    |r, d| r.phone = d.digits(5),
    |r, _| r.bank_account.clear(),
    |r, d| r.bank_account = d.digits(5),
    |r, _| r.email = "khong-co-email".to_owned(),
    |r, _| r.name.clear(),
    |r, _| r.name = "A".to_owned(),
    |r, _| {
        *r = Report {
            name: "B".to_owned(),
            phone: "123".to_owned(),
            bank_account: "456".to_owned(),
            email: "invalid-email".to_owned(),
            ..r.clone()
        }
    },
    // Phone numbers.
    |r, _| r.phone = "không có số".to_owned(),
    |r, d| r.phone = format!("06{}", d.digits(10)),
    |r, d| r.phone = format!("0912{} ext {}", d.digits(6), d.digits(2)),
    |r, _| r.phone = "+84 113      ".to_owned(),
    |r, d| r.phone = format!("0123{}", d.digits(6)),
    |r, d| r.phone = format!("+1 202 555 01{}", d.digits(2)),
    |r, d| r.phone = format!("+44 7700 900{}", d.digits(3)),
    |r, d| r.phone = format!("0243{}", d.digits(7)),
    |r, d| r.phone = format!("0168{}", d.digits(7)),
    |r, d| r.phone = format!("0123 {}", d.digits(7)),
    |r, d| r.phone = wide(&format!("0912{}", d.digits(6))),
    |r, d| r.phone = format!("0912{}/0987{}", d.digits(6), d.digits(6)),
    |r, d| r.phone = format!("1900 {}", d.digits(6)),
    |r, d| r.phone = format!("(+84) 912-{}-{}", d.digits(3), d.digits(3)),
    // Bank accounts.
    |r, d| r.bank_account = format!("{}€{}", d.digits(6), d.digits(4)),
    |r, d| r.bank_account = d.digits(22),
    |r, _| r.bank_account = "DE89370400440532013001".to_owned(),
    |r, _| r.bank_account = "GB82WEST12345698765433".to_owned(),
    |r, _| r.bank_account = "DE8937040044053201300".to_owned(),
    |r, _| plain(r, "DE89 3704 0044 0532 0130 00"),
    |r, _| plain(r, "GB82WEST12345698765432"),
    |r, _| plain(r, "FR1420041010050500013M02606"),
    |r, d| plain(r, &format!("VCB 1{}", d.digits(12))),
    |r, d| plain(r, &format!("1{} (Techcombank)", d.digits(13))),
    |r, d| plain(r, &format!("Vietcombank 1{}", d.digits(7))),
    |r, d| plain(r, &format!("9704361{}", d.digits(9))),
    |r, d| plain(r, &format!("9704991{}", d.digits(9))),
    |r, d| plain(r, &format!("0912{}", d.digits(6))),
    |r, d| plain(r, &wide(&format!("1{}", d.digits(12)))),
    |r, d| plain(r, &format!("STK: 1{}-{}", d.digits(5), d.digits(6))),
    |r, _| r.bank_name = "Ngân hàng Không Có Thật".to_owned(),
    // E-mail addresses.
    |r, _| r.email = format!("{}@{}", "a..b", "example.com"),
    |r, _| r.email = "\"an nguyen\"@example.com".to_owned(),
    |r, _| r.email = "an@exa_mple.com".to_owned(),
    |r, _| r.email = "an@example.khongco".to_owned(),
    |r, _| r.email = "an@may-chu.local".to_owned(),
    |r, d| r.email = format!("an{}@{}", d.digits(3), d.pick(&DISPOSABLE)),
    |r, _| r.email = "support@example.com".to_owned(),
    |r, d| r.email = format!("An.Nguyen{}@Example.COM", d.digits(3)),
    |r, _| r.email = "an@раypal.com".to_owned(),
    // Names.
    |r, _| r.name = decomposed(&r.name),
    |r, _| r.name = format!("  {} ", r.name.replace(' ', "  ")),
    |r, _| r.name = r.name.replace(' ', " \u{200b}"),
    |r, _| r.name = format!("\u{202e}{}", r.name),
    |r, _| r.name = "Nguуễn Văn Аn".to_owned(),
    |r, d| r.name = format!("{} {}", r.name, d.digits(2)),
    |r, _| r.name = format!("{} 😀", r.name),
    |r, _| r.name = "không rõ".to_owned(),
    |r, _| r.name = "test".to_owned(),
    // A whole report in capitals, as forms are filled in.
    |r, _| r.name = r.name.to_uppercase(),
];

/// An account that says by itself where it belongs.
fn plain(report: &mut Report, account: &str) {
    report.bank_account = account.to_owned();
    report.bank_name.clear();
}

/// ASCII digits as full-width ones.
fn wide(digits: &str) -> String {
    digits
        .chars()
        .map(|c| char::from_u32(u32::from(c) + 0xfee0).unwrap_or(c))
        .collect()
}

/// The Vietnamese letters of the names above, spelled with combining marks as some systems write them.
fn decomposed(name: &str) -> String {
    let pairs = [
        ("ễ", "e\u{302}\u{303}"),
        ("ầ", "a\u{302}\u{300}"),
        ("ê", "e\u{302}"),
        ("ạ", "a\u{323}"),
        ("à", "a\u{300}"),
        ("ỳ", "y\u{300}"),
        ("ũ", "u\u{303}"),
        ("õ", "o\u{303}"),
        ("ặ", "a\u{323}\u{306}"),
        ("ù", "u\u{300}"),
        ("ỗ", "o\u{302}\u{303}"),
        ("ă", "a\u{306}"),
        ("ị", "i\u{323}"),
        ("ứ", "u\u{31b}\u{301}"),
        ("ọ", "o\u{323}"),
        ("ì", "i\u{300}"),
        ("ơ", "o\u{31b}"),
        ("ư", "u\u{31b}"),
        ("ả", "a\u{309}"),
        ("á", "a\u{301}"),
        ("ấ", "a\u{302}\u{301}"),
        ("í", "i\u{301}"),
        ("ü", "u\u{308}"),
    ];
    pairs.iter().fold(name.to_owned(), |name, (whole, parts)| {
        name.replace(whole, parts)
    })
}

// === Writing ===

pub(crate) fn reports() -> String {
    let mut dice = Dice(2025);
    let mut text = format!("{COLUMNS}\n");
    for number in 0..REPORTS {
        let mut report = report(&mut dice);
        if number % 3 == 2 {
            FAULTS[number / 3 % FAULTS.len()](&mut report, &mut dice);
        }
        push_row(&report, &mut text);
    }
    text
}

fn push_row(report: &Report, text: &mut String) {
    let Report {
        name,
        phone,
        bank_account,
        email,
        source,
        reported_date,
        description,
        bank_name,
        amount,
        category,
    } = report;
    let cells = [
        name,
        phone,
        bank_account,
        email,
        source,
        reported_date,
        description,
        bank_name,
        amount,
        category,
    ];
    let _ = writeln!(text, "{}", cells.map(|text| cell(text)).join(","));
}

/// A cell, quoted as RFC 4180 says where that is needed.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) || text != text.trim() {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

pub(crate) fn legacy() -> String {
    let mut dice = Dice(84);
    let mut text = String::new();
    for number in 0..LEGACY {
        let mut report = report(&mut dice);
        if number % 5 == 4 {
            FAULTS[number / 5 % FAULTS.len()](&mut report, &mut dice);
        }
        let fields = match number % 4 {
            0 => beside_item(&report, number),
            1 => flat(&report, number),
            2 => extension(&report, number),
            _ => flat_extension(&report, number),
        };
        let _ = writeln!(text, "{}", object(&fields));
    }
    text
}

type Fields = Vec<(&'static str, String)>;

/// The producer script and the crawler: one item in `data`, its origin beside it.
fn beside_item(report: &Report, number: usize) -> Fields {
    let item = object(&[
        ("phone", report.phone.clone()),
        ("bank_account", report.bank_account.clone()),
        ("email", report.email.clone()),
        ("name", report.name.clone()),
        ("source", report.source.clone()),
        ("description", report.description.clone()),
        ("reported_date", report.reported_date.clone()),
    ]);
    vec![
        ("data", item),
        ("source", report.source.clone()),
        (
            "timestamp",
            format!("{}T08:00:00.000Z", report.reported_date),
        ),
        ("producer", "sample".to_owned()),
        ("batch_id", "checkscam_1736000000000".to_owned()),
        ("sequence", number.to_string()),
        ("scrape_url", format!("https://example.com/report/{number}")),
    ]
}

/// The importer guide: the flat fields are the item.
fn flat(report: &Report, number: usize) -> Fields {
    vec![
        ("name", report.name.clone()),
        ("phone", report.phone.clone()),
        ("bank_account", report.bank_account.clone()),
        ("email", report.email.clone()),
        ("source", report.source.clone()),
        ("batch_id", format!("guide_{}", number / 20)),
        ("scraped_at", format!("{}T08:00:00", report.reported_date)),
        ("metadata", "{\"page\": 1}".to_owned()),
    ]
}

/// The extension in the browser: everything in `data`.
fn extension(report: &Report, number: usize) -> Fields {
    let message = format!(
        "{{\"request_id\":\"ext_req_17360000000{number:02}_sample\",\"user_id\":\"user_{number}\",\"session_id\":\"session_{number}\",\
         \"action\":\"rate_check\",\"data\":{},\"source\":\"browser_extension\",\"extension_version\":\"1.0.0\",\
         \"timestamp\":\"{}T08:00:00Z\",\"priority\":\"high\",\"callback_stream\":\"extension_responses\",\
         \"metadata\":{{\"page_url\":\"https://example.com\"}}}}",
        four_fields(report),
        report.reported_date
    );
    vec![("data", message)]
}

/// The extension's client in Python: the same, flat.
fn flat_extension(report: &Report, number: usize) -> Fields {
    vec![
        (
            "request_id",
            format!("ext_req_17360000000{number:02}_sample"),
        ),
        ("user_id", format!("user_{number}")),
        ("action", "rate_check".to_owned()),
        ("data", four_fields(report)),
        ("source", "browser_extension".to_owned()),
        ("timestamp", format!("{}T08:00:00Z", report.reported_date)),
        ("priority", "normal".to_owned()),
        ("callback_stream", "extension_responses".to_owned()),
        ("metadata", "{}".to_owned()),
    ]
}

fn four_fields(report: &Report) -> String {
    object(&[
        ("name", report.name.clone()),
        ("phone", report.phone.clone()),
        ("bank_account", report.bank_account.clone()),
        ("email", report.email.clone()),
    ])
}

/// A JSON object of strings.
fn object(fields: &[(&str, String)]) -> String {
    let entries: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("\"{name}\":{}", json_string(value)))
        .collect();
    format!("{{{}}}", entries.join(","))
}

fn json_string(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\n' => json.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

// === Chance ===

/// A small generator with a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(b'0' + self.roll(10) as u8))
            .collect()
    }
}
