//! Names of containers: which are allowed, which are made up, and which container a text names.

use strata_spec::ContainerId;

/// The containers whose IDs begin with a text that is no whole ID and no name: two or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguous<'a>(pub Vec<&'a ContainerId>);

/// Finds which of `known`, IDs with their names (`None` if the record cannot be read), `text` names: by full ID, by name with or without
/// its slash, or by the beginning of its ID, in this order.
///
/// Source: moby 20.10, `daemon/container.go`, `GetContainer`.
pub fn find<'a>(
    text: &str,
    known: impl Iterator<Item = (&'a ContainerId, Option<&'a str>)>,
) -> Result<Option<&'a ContainerId>, Ambiguous<'a>> {
    let name = text.strip_prefix('/').unwrap_or(text);
    if name.is_empty() {
        return Ok(None);
    }
    let (mut named, mut starting) = (None, Vec::new());
    for (id, short_name) in known {
        if id.as_str() == text {
            return Ok(Some(id));
        }
        if short_name == Some(name) {
            named = named.or(Some(id));
        }
        if id.as_str().starts_with(text) {
            starting.push(id);
        }
    }
    match named {
        None if starting.len() > 1 => Err(Ambiguous(starting)),
        None => Ok(starting.pop()),
        named => Ok(named),
    }
}

/// Whether `name`, without a slash before it, may name a container: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
///
/// Source: moby `daemon/names/names.go`.
pub fn is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    let tail = |b: &u8| b.is_ascii_alphanumeric() || b"_.-".contains(b);
    bytes.len() >= 2 && bytes[0].is_ascii_alphanumeric() && bytes[1..].iter().all(tail)
}

const MANNERS: [&str; 64] = [
    "agile", "amber", "ample", "bold", "brave", "bright", "brisk", "calm", "candid", "careful", "cheerful", "clear",
    "clever", "crisp", "curious", "daring", "deft", "eager", "early", "earnest", "even", "exact", "fair", "fleet",
    "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "hardy", "honest", "humble", "keen", "kind",
    "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "patient",
    "placid", "plain", "polite", "prompt", "proud", "quick", "quiet", "ready", "serene", "sharp", "silent", "steady",
    "sturdy", "swift", "tidy", "witty",
];

/// Geologists, surveyors and mountaineers: people of strata.
const SURNAMES: [&str; 64] = [
    "agassiz",
    "agricola",
    "alexander",
    "anning",
    "balmat",
    "bascom",
    "bell",
    "beringer",
    "bretz",
    "burton",
    "buckland",
    "carson",
    "cuvier",
    "dana",
    "dawson",
    "desio",
    "dutton",
    "eaton",
    "eskola",
    "everest",
    "forbes",
    "fouque",
    "geikie",
    "gesner",
    "gilbert",
    "goldschmidt",
    "guettard",
    "hall",
    "hess",
    "hillary",
    "hutton",
    "judson",
    "kelvin",
    "king",
    "lambton",
    "lapworth",
    "lehmann",
    "lyell",
    "mawson",
    "mercalli",
    "messner",
    "murchison",
    "norgay",
    "oldham",
    "ortelius",
    "palissy",
    "playfair",
    "powell",
    "richter",
    "saussure",
    "sedgwick",
    "sharp",
    "smith",
    "sorby",
    "steno",
    "suess",
    "tabei",
    "tharp",
    "ussher",
    "vening",
    "wegener",
    "werner",
    "whymper",
    "wilson",
];

/// Returns the name `manner_surname` that `random` picks; from the second `attempt` on, with a digit behind it.
pub fn random(random: [u8; 3], attempt: u32) -> String {
    let pick = |list: &[&'static str; 64], byte: u8| list[usize::from(byte) % 64];
    let name = format!("{}_{}", pick(&MANNERS, random[0]), pick(&SURNAMES, random[1]));
    if attempt == 0 { name } else { format!("{name}{}", random[2] % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_grammar() {
        for good in ["ab", "a.b-c_d", "0x", "A1", "web.1.x"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "a", "-ab", "_ab", ".ab", "a b", "a/b", "/ab", "ä1", "ab\n"] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn made_up_names_are_valid_and_no_word_is_there_twice() {
        for list in [&MANNERS, &SURNAMES] {
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 64);
        }
        for byte in 0..=255 {
            assert!(is_valid(&random([byte, byte, byte], 0)));
        }
        assert_eq!(random([0, 64, 13], 1), "agile_agassiz3");
    }
}
