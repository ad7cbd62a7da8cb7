//! Sizes and lengths of time as people write them, each grammar once.
//!
//! Docker has two grammars of sizes: where a flag sets a limit (memory, storage), a unit is a power of 1,024 whatever its spelling
//! ([`ram_bytes`]); where a size is shown, units are powers of 1,000. Lengths of time are Go's ([`go_duration`]).

use jiff::SignedDuration;

/// Reads `10G`, `1.5 GiB`, `512m` or `1048576`: units are powers of 1,024 in either case, with `b` or `ib` behind or not.
///
/// Source: docker/go-units, `size.go`, `RAMInBytes`.
pub fn ram_bytes(text: &str) -> Option<u64> {
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

/// Reads `1h30m`, `1.5s`, `300ms` or `0`, without a sign.
///
/// Source: Go, `time.ParseDuration`.
pub fn go_duration(text: &str) -> Option<SignedDuration> {
    if text == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut rest = text;
    let mut total = SignedDuration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(SignedDuration::try_from_secs_f64(value * seconds).ok()?)?;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(ram_bytes(text), Some(bytes), "{text}");
        }
        for text in
            ["", "b", "-1", "1x", "1kk", "G", "1  ", "1..2", "1.2.3", "32bi", "99999999999P", "1e3", "inf", "nan"]
        {
            assert_eq!(ram_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn lengths_of_time_as_go_reads_them() {
        for (text, milliseconds) in
            [("1h30m", 5_400_000), ("1.5s", 1500), ("300ms", 300), ("0", 0), ("2m.5s", 120_500), ("1000us", 1)]
        {
            assert_eq!(go_duration(text), Some(SignedDuration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "1d", "h", "1 s", "s1", "1h1", "999999999999999999999h"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }
}
