mod format;
fn main() {}
