//! Sizes as people write them.

/// Reads `10G`, `1.5 GiB`, `512m` or `1048576`: units are powers of 1,024 in either case, with `b` or `ib` behind or not.
///
/// Source: docker/go-units `RAMInBytes`.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let power = match unit.strip_suffix('i').unwrap_or(unit) {
        "" => 0,
        unit => "kmgtp".find(unit).filter(|_| unit.len() == 1)? + 1,
    };
    let bytes = number.parse::<f64>().ok()? * 1024f64.powi(power as i32);
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32k", 32 << 10),
            ("32KB", 32 << 10),
            ("32 Kb", 32 << 10),
            ("1 ", 1),
            ("1.5MiB", 3 << 19),
            ("10G", 10 << 30),
            ("1t", 1 << 40),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in
            ["", "b", "-1", "1x", "1kk", "G", "1  ", "1..2", "1.2.3", "32bi", "99999999999P", "1e3", "inf", "nan"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
