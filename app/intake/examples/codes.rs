//! Prints the page of all verdict codes: `cargo run -p ratebox-intake --example codes > docs/Codes.md`.

fn main() {
    print!("{}", ratebox_intake::codes_page());
}
