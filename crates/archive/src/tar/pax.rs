//! PAX extended headers: `<length> <key>=<value>\n` records.

use base64::Engine as _;

use super::{Header, Time};

/// The records of one `x` header, in which a later one replaces an earlier one of the same key.
#[derive(Debug, Default)]
pub(super) struct Records {
    records: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offsets and lengths in turn, from GNU sparse format 0.0, the only keys that repeat.
    pub(super) sparse_numbers: Vec<i64>,
}

impl Records {
    /// Reads the payload of an `x` header.
    pub(super) fn parse(mut payload: &[u8]) -> Result<Self, &'static str> {
        let mut found = Self::default();
        while !payload.is_empty() {
            let (key, value, rest) = record(payload).ok_or("a PAX record is malformed")?;
            payload = rest;
            match key {
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => found.sparse_number(key, value)?,
                b"path" | b"linkpath" | b"uname" | b"gname" if value.contains(&0) => {
                    return Err("a PAX record has a NUL in a name");
                }
                _ => found.set(key, value),
            }
        }
        Ok(found)
    }

    fn sparse_number(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let expected: &[u8] =
            if self.sparse_numbers.len().is_multiple_of(2) { b"GNU.sparse.offset" } else { b"GNU.sparse.numbytes" };
        if key != expected {
            return Err("its sparse map is out of order");
        }
        self.sparse_numbers.push(integer(value).ok_or("its sparse map holds something else than numbers")?);
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        match self.records.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value.to_vec(),
            None => self.records.push((key.to_vec(), value.to_vec())),
        }
    }

    /// The value of `key`; an empty one means that the header's own field holds.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.records.iter().find(|(k, v)| k == key.as_bytes() && !v.is_empty()).map(|(_, v)| v.as_slice())
    }

    /// The number that is the value of `key`.
    pub(super) fn number(&self, key: &str) -> Result<Option<i64>, &'static str> {
        self.get(key).map(|value| integer(value).ok_or("a PAX record holds something else than a number")).transpose()
    }

    fn time(&self, key: &str) -> Result<Option<Time>, &'static str> {
        self.get(key).map(|value| time(value).ok_or("a PAX record holds something else than a time")).transpose()
    }

    /// Puts what the records say over what `header`'s own fields say; the size is for the reader, which takes it from [`Self::number`].
    pub(super) fn merge(self, header: &mut Header) -> Result<(), &'static str> {
        for (key, into) in [
            ("path", &mut header.name),
            ("linkpath", &mut header.link),
            ("uname", &mut header.uname),
            ("gname", &mut header.gname),
        ] {
            if let Some(value) = self.get(key) {
                *into = value.to_vec();
            }
        }
        header.uid = self.number("uid")?.map_or(header.uid, |id| id as u32);
        header.gid = self.number("gid")?.map_or(header.gid, |id| id as u32);
        header.mtime = self.time("mtime")?.unwrap_or(header.mtime);
        header.atime = self.time("atime")?.or(header.atime);
        header.ctime = self.time("ctime")?.or(header.ctime);
        header.acl_access = self.get("SCHILY.acl.access").map(<[u8]>::to_vec);
        header.acl_default = self.get("SCHILY.acl.default").map(<[u8]>::to_vec);
        header.xattrs = xattrs(self.records);
        Ok(())
    }
}

/// Splits the first record off `payload`: key, value, the rest.
fn record(payload: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = payload.iter().position(|&b| b == b' ')?;
    let len = usize::try_from(integer(&payload[..space])?).ok()?;
    if len < 5 || len > payload.len() || space + 1 > len - 1 || payload[len - 1] != b'\n' {
        return None;
    }
    let body = &payload[space + 1..len - 1];
    let equals = body.iter().position(|&b| b == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, &payload[len..]))
}

fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads `[-]<seconds>[.<digits>]`, cut to nanoseconds.
fn time(text: &[u8]) -> Option<Time> {
    let dot = text.iter().position(|&b| b == b'.');
    let (whole, fraction) = dot.map_or((text, &[][..]), |at| (&text[..at], &text[at + 1..]));
    let secs = integer(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0u32, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    // The fraction has the sign of the whole, also of `-0`.
    if whole.starts_with(b"-") && nanos > 0 {
        Some(Time { secs: secs.checked_sub(1)?, nanos: 1_000_000_000 - nanos })
    } else {
        Some(Time { secs, nanos })
    }
}

/// The extended attributes among `records`. Where more than one kind of record has the same attribute, SCHILY's counts.
fn xattrs(records: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found: Vec<(Vec<u8>, Vec<u8>, u8)> = Vec::new();
    for (key, value) in records {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            found.push((name.to_vec(), value, 0));
        } else if key == b"RHT.security.selinux" {
            found.push((b"security.selinux".to_vec(), value, 1));
        } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.")
            && let Some(value) = base64_loose(&value)
        {
            found.push((percent_decode(name), value, 2));
        }
    }
    found.retain(|(name, _, _)| !name.is_empty() && !name.contains(&0));
    found.sort_by(|a, b| (&a.0, a.2).cmp(&(&b.0, b.2)));
    found.dedup_by(|later, kept| later.0 == kept.0);
    found.into_iter().map(|(name, value, _)| (name, value)).collect()
}

/// Base 64 with or without its padding; bsdtar leaves it out.
fn base64_loose(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|&b| b != b'=').map_or(0, |last| last + 1);
    base64::engine::general_purpose::STANDARD_NO_PAD.decode(&text[..end]).ok()
}

fn percent_decode(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(value) => (decoded.push(value), rest = &after[2..]).1,
            None => (decoded.push(byte), rest = after).1,
        }
    }
    decoded
}

/// Appends one record to `payload`; its length counts itself.
pub(super) fn push_record(payload: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let bare = key.len() + value.len() + 3;
    let mut len = bare + digits(bare);
    if bare + digits(len) != len {
        len = bare + digits(len);
    }
    payload.extend_from_slice(len.to_string().as_bytes());
    payload.push(b' ');
    payload.extend_from_slice(key);
    payload.push(b'=');
    payload.extend_from_slice(value);
    payload.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Writes a time as Go does: no zeros at the end of the fraction, the sign before both parts.
pub(super) fn format_time(time: Time) -> String {
    let (sign, secs, nanos) = match time {
        Time { secs, nanos: 0 } => return secs.to_string(),
        Time { secs, nanos } if secs < 0 => ("-", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos),
        Time { secs, nanos } => ("", secs.unsigned_abs(), nanos),
    };
    format!("{sign}{secs}.{nanos:09}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64, nanos: u32) -> Option<Time> {
        Some(Time { secs, nanos })
    }

    #[test]
    fn times_read_as_go_reads_them() {
        let cases: &[(&str, Option<Time>)] = &[
            ("1350244992.023960108", at(1_350_244_992, 23_960_108)),
            ("1350244992.02396010", at(1_350_244_992, 23_960_100)),
            ("1350244992.0239601089999", at(1_350_244_992, 23_960_108)),
            ("1350244992.", at(1_350_244_992, 0)),
            ("1350244992", at(1_350_244_992, 0)),
            ("-1.000000001", at(-2, 999_999_999)),
            ("-1.9", at(-2, 100_000_000)),
            ("-0.5", at(-1, 500_000_000)),
            ("-3", at(-3, 0)),
            ("+7", at(7, 0)),
            ("", None),
            ("0x10", None),
            (".5", None),
            ("1.x", None),
            ("1.2.3", None),
            ("9999999999999999999999", None),
            ("-9223372036854775808.5", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text.as_bytes()), *expected, "{text}");
        }
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        for (secs, nanos, expected) in [
            (0, 0, "0"),
            (1, 1, "1.000000001"),
            (-1, 0, "-1"),
            (-2, 999_999_999, "-1.000000001"),
            (-1, 500_000_000, "-0.5"),
            (1_350_244_992, 300_000_000, "1350244992.3"),
            (i64::MIN, 1, "-9223372036854775807.999999999"),
        ] {
            let written = format_time(Time { secs, nanos });
            assert_eq!(written, expected);
            assert_eq!(time(written.as_bytes()), at(secs, nanos));
        }
    }

    #[test]
    fn records_split_at_their_length() {
        type Split<'a> = Option<(&'a [u8], &'a [u8], &'a [u8])>;
        let cases: &[(&[u8], Split<'_>)] = &[
            (b"6 k=v\n\n", Some((b"k", b"v", b"\n"))),
            (b"19 path=/etc/hosts\n", Some((b"path", b"/etc/hosts", b""))),
            (b"27 path=/etc/hosts\nname\nnul\0", None),
            (b"6 k=v", None),
            (b"6 k=vv\n", None),
            (b"5 k=\n", Some((b"k", b"", b""))),
            (b"4 =v\n", None),
            (b"5 =v\n", None),
            (b"9 foo=a=b\n", None),
            (b"11 foo=a=b\n", Some((b"foo", b"a=b", b""))),
            (b"-6 k=v\n", None),
            (b"5         \n", None),
            (b"99999999999999999999 k=v\n", None),
            (b"", None),
        ];
        for (payload, expected) in cases {
            assert_eq!(record(payload), *expected, "{:?}", String::from_utf8_lossy(payload));
        }
    }

    #[test]
    fn record_lengths_count_themselves() {
        for len in [0, 1, 3, 4, 5, 90, 91, 92, 93, 94, 95, 986, 987, 988, 989, 990, 991, 992, 993, 9_980, 9_990, 9_991]
        {
            let mut payload = Vec::new();
            push_record(&mut payload, b"key", &vec![b'v'; len]);
            let (key, value, rest) = record(&payload).expect("a record");
            assert_eq!((key, value.len(), rest), (&b"key"[..], len, &b""[..]));
        }
    }

    #[test]
    fn xattrs_come_from_three_kinds_of_records() {
        let mut payload = Vec::new();
        push_record(&mut payload, b"LIBARCHIVE.xattr.user.a%3Db%zz", b"aGk");
        push_record(&mut payload, b"LIBARCHIVE.xattr.user.same", b"aGk=");
        push_record(&mut payload, b"SCHILY.xattr.user.same", b"wins\0\n=");
        push_record(&mut payload, b"SCHILY.xattr.user.empty", b"");
        push_record(&mut payload, b"RHT.security.selinux", b"ctx");
        let mut header = Header::new(crate::tar::Kind::Regular, "f");
        Records::parse(&payload).expect("records").merge(&mut header).expect("merge");
        let expected: &[(&[u8], &[u8])] = &[
            (b"security.selinux", b"ctx"),
            (b"user.a=b%zz", b"hi"),
            (b"user.empty", b""),
            (b"user.same", b"wins\0\n="),
        ];
        let found: Vec<_> = header.xattrs.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
        assert_eq!(found, expected);
    }
}
