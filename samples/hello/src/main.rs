//! Runs to its end: says hello, once for each argument, and exits.

fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "hello".to_owned());
    for name in if names.is_empty() { vec!["world".to_owned()] } else { names } {
        println!("{greeting}, {name}");
    }
}
