//! Tests without the standard harness: for programs whose `main` does something first, such as being the process behind a union.

use std::sync::Mutex;

/// The test that runs.
static CURRENT: Mutex<Option<String>> = Mutex::new(None);

/// The name of the test that [`run`] runs on the main thread.
pub(crate) fn current() -> Option<String> {
    CURRENT.lock().ok()?.clone()
}

/// Runs `tests`, named, in order, and closes with a summary as the standard harness writes it. A name or a part of one picks those that run, as in a harness.
pub fn run(tests: &[(&str, fn())]) {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<&String> = asked.iter().filter(|argument| !argument.starts_with('-')).collect();
    let picked = tests.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|part| name.contains(*part)));
    let mut passed = 0;
    for (name, test) in picked {
        // Listing tests is all that a harness may be asked for besides.
        if asked.iter().any(|argument| argument == "--list") {
            println!("{name}: test");
            continue;
        }
        *CURRENT.lock().expect("no test panics with the lock held") = Some((*name).to_owned());
        test();
        passed += 1;
        println!("test {name} ... ok");
    }
    println!(
        "\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; {} filtered out",
        tests.len() - passed
    );
}
