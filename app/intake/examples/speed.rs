//! Measures what one item costs, part by part: `cargo run --release -p ratebox-intake --example speed`.
//! Single-threaded, on records that raise warnings; the sum of decode, judge, ids and answer is what a worker pays.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ratebox_intake::{
    Answered, Item, Profile, Request, Response, Rules, decode, item_id, parse_validation,
};
use uuid::Uuid;

const ROUNDS: u32 = 2_000;

/// Records as they come: clean, foreign, full of warnings, and wrong.
const RECORDS: [&str; 8] = [
    r#"{"name":"Nguyễn Văn An","phone":"0912 345 678","bank_account":"0071000123456","email":"nguyen.van.an@example.com","source":"checkscam","description":"chuyển khoản rồi chặn liên lạc","reported_date":"2025-03-04"}"#,
    r#"{"name":"Trần Thị Bình","phone":"0123456789","bank_account":"12345678901","email":"binh@mailinator.com","source":"extension","metadata":{"page_url":"https://example.com/p/1","views":12}}"#,
    r#"{"name":"John Smith","phone":"+1 202 555 0123","bank_account":"DE89 3704 0044 0532 0130 00","email":"john.smith@example.org","source":"api"}"#,
    r#"{"name":"Nguуễn Văn C","phone":"0168 123 4567","bank_account":"VCB 0071000123456","email":"admin@example.com.vn"}"#,
    r#"{"name":"Lê Văn Dũng 0912","phone":"02438251234","bank_account":"0912345678","email":"dung@khong-co.example"}"#,
    r#"{"name":"A","phone":"123","bank_account":"456","email":"invalid-email"}"#,
    r#"{"name":"Phạm  Minh\tĐức","phone":"０９１２３４５６７８","bank_account":"GB82WEST12345698765433","email":"Duc.Pham@Example.COM"}"#,
    r#"{"name":"Võ Thị \u0048oa","phone":"84912345678","bank_account":"19001234567890","email":"hoa@example.net","note":"\"trích dẫn\""}"#,
];

fn main() {
    let rules = Rules::new(Profile::Classic);
    let warm_up = timed(1, || rules.warm_up());
    println!("warm-up                {warm_up:>10.1?} once");

    let body = format!(r#"{{"items":[{}]}}"#, RECORDS.join(","));
    let submission = parse_validation(body.as_bytes(), 1000).expect("the records are JSON");
    let items = submission.items.clone();
    let id = Uuid::from_u128(0x0194_0000_0000_7000_8000_0000_0000_0001);
    let request = Request {
        items: submission.items,
        ..Request::new(id, "owner", "api")
    };
    let message = request.to_message();
    let answered = Answered {
        at: request.accepted_at(),
        took_ms: 1,
    };

    per_item("parse one by one", || {
        RECORDS
            .iter()
            .for_each(|text| drop(black_box(Item::parse(text.as_bytes()))))
    });
    per_item("parse HTTP body", || {
        drop(black_box(parse_validation(
            black_box(body.as_bytes()),
            1000,
        )))
    });
    per_item("encode envelope", || drop(black_box(request.to_message())));
    per_item("decode envelope", || {
        drop(black_box(decode(&[("data", black_box(&message))], 1000)))
    });
    per_item("judge classic", || {
        items
            .iter()
            .for_each(|item| drop(black_box(rules.judge(black_box(item)))))
    });
    per_item("judge_all classic", || {
        drop(black_box(rules.judge_all(black_box(&items))))
    });
    per_item("item ids", || {
        (0..8).for_each(|number| _ = black_box(item_id(id, number)))
    });
    let verdicts = rules.judge_all(&items);
    per_item("copy of verdicts", || drop(black_box(verdicts.clone())));
    per_item("copy, answer, encode", || {
        let response = Response::new(&request, Profile::Classic, verdicts.clone(), answered);
        drop(black_box(response.to_message()));
    });
    for record in RECORDS {
        let item = Item::parse(record.as_bytes()).expect("the records are JSON");
        let cost = timed(ROUNDS, || drop(black_box(rules.judge(black_box(&item))))) / ROUNDS;
        let verdict = rules.judge(&item);
        println!(
            "  judge {cost:>8.1?}  {} warnings, {} errors",
            verdict.warnings.len(),
            verdict.errors.len()
        );
    }
}

fn per_item(what: &str, mut work: impl FnMut()) {
    (0..200).for_each(|_| work());
    let best = (0..5)
        .map(|_| timed(ROUNDS, &mut work))
        .min()
        .unwrap_or_default();
    println!(
        "{what:22} {:>10.1?} an item",
        best / ROUNDS / RECORDS.len() as u32
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "an example that measures; the library has no clock"
)]
fn timed(rounds: u32, mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..rounds).for_each(|_| work());
    start.elapsed()
}
