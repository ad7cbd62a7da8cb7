//! Tests without the standard harness: for programs whose `main` does something first, such as being the process behind a union.

/// Runs `tests`, named, in order. A name or a part of one picks those that run, as in a harness.
pub fn run(tests: &[(&str, fn())]) {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<&String> = asked.iter().filter(|argument| !argument.starts_with('-')).collect();
    let picked = tests.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|part| name.contains(*part)));
    for (name, test) in picked {
        // Listing tests is all that a harness may be asked for besides.
        if asked.iter().any(|argument| argument == "--list") {
            println!("{name}: test");
            continue;
        }
        test();
        println!("test {name} ... ok");
    }
}
