//! Signals by name and number, as `--stop-signal`, `STOPSIGNAL` and `kill` take them.

use crate::Error;

/// Linux's signals on the architectures that we run on, by number.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
const RT_MIN: i32 = 34;
const RT_MAX: i32 = 64;

/// Reads `9`, `KILL`, `SIGKILL`, `RTMIN+3`, in any case.
pub fn parse(text: &str) -> Result<i32, Error> {
    let number = match text.parse::<i32>() {
        Ok(number) => (1..=RT_MAX).contains(&number).then_some(number),
        Err(_) => by_name(&text.to_ascii_uppercase()),
    };
    number.ok_or_else(|| Error::invalid(format!("Invalid signal: {text}")))
}

fn by_name(name: &str) -> Option<i32> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return Some(at as i32 + 1);
    }
    let real_time = |base: i32, rest: &str, sign: char, step: i32| match rest {
        "" => Some(base),
        rest => rest.strip_prefix(sign)?.parse::<i32>().ok().filter(|n| *n >= 0).map(|n| base + step * n.min(99)),
    };
    let number = match (name, name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        ("CLD", ..) => Some(17),
        ("POLL", ..) => Some(29),
        ("IOT", ..) => Some(6),
        (_, Some(rest), _) => real_time(RT_MIN, rest, '+', 1),
        (_, _, Some(rest)) => real_time(RT_MAX, rest, '-', -1),
        _ => None,
    };
    number.filter(|number| (RT_MIN..=RT_MAX).contains(number) || *number < 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("sigkill", 9),
            ("SIGTERM", 15),
            ("SYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("RTMAX", 64),
            ("CLD", 17),
            ("64", 64),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "NOPE", "RTMIN-1", "RTMAX+1", "RTMIN+31", "RTMAX-31", "RTMIN+x"] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("Invalid signal: {text}"));
        }
    }
}
