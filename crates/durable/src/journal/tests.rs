use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    step: String,
    bytes: u64,
}

fn note(step: &str) -> Note {
    Note { step: step.into(), bytes: 7 }
}

fn settled(journal: &Journal) -> Vec<Vec<Note>> {
    let mut all = Vec::new();
    let settle = |notes: &[Note]| {
        all.push(notes.to_vec());
        Ok::<_, Error>(())
    };
    journal.settle(settle).unwrap();
    all
}

#[test]
fn a_live_operation_is_seen_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let journal = Journal::open(&temp.path().join("strata/journal")).unwrap();
    assert!(journal.is_writable());
    let mut intent = journal.begin(&note("first")).unwrap();
    intent.note(&note("second")).unwrap();
    let other = Journal::open(&temp.path().join("strata/journal")).unwrap();
    assert_eq!(settled(&other), Vec::<Vec<Note>>::new());
    let alive = other.alive::<Note>().unwrap();
    assert_eq!(alive.len(), 1);
    assert_eq!(alive[0].notes, [note("first"), note("second")]);
    assert_eq!(fs::metadata(&alive[0].path).unwrap().permissions().mode() & 0o777, 0o600);
    intent.done().unwrap();
    assert!(other.alive::<Note>().unwrap().is_empty());
    assert_eq!(settled(&other), Vec::<Vec<Note>>::new());
}

#[test]
fn a_dead_operation_is_settled_once() {
    let temp = tempfile::tempdir().unwrap();
    let journal = Journal::open(temp.path()).unwrap();
    let mut intent = journal.begin(&note("first")).unwrap();
    intent.note(&note("second")).unwrap();
    drop(intent);
    drop(journal.begin(&note("other")).unwrap());
    assert!(journal.alive::<Note>().unwrap().is_empty());
    let mut found = settled(&journal);
    found.sort_by_key(Vec::len);
    assert_eq!(found, [vec![note("other")], vec![note("first"), note("second")]]);
    assert_eq!(settled(&journal), Vec::<Vec<Note>>::new());
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn one_that_cannot_be_settled_stays_and_stops_no_other() {
    let temp = tempfile::tempdir().unwrap();
    let journal = Journal::open(temp.path()).unwrap();
    for n in 0..5 {
        drop(journal.begin(&note(&n.to_string())).unwrap());
    }
    let mut tried = 0;
    let result = journal.settle(|notes: &[Note]| {
        tried += 1;
        match &*notes[0].step {
            "3" => Err(io::Error::other("no")).context("settle", "three"),
            _ => Ok(()),
        }
    });
    assert_eq!((tried, result.unwrap_err().path.as_path()), (5, Path::new("three")));
    assert_eq!(settled(&journal), [vec![note("3")]]);
}

#[test]
fn what_a_crash_leaves_of_an_entry() {
    let whole = b"{\"step\":\"a\",\"bytes\":1}\n".to_vec();
    let after = |tail: &[u8]| [&whole[..], tail].concat();
    for (bytes, notes) in [
        (whole.clone(), Some(1)),
        (Vec::new(), Some(0)),
        (whole[..10].to_vec(), Some(0)),
        (whole[..whole.len() - 1].to_vec(), Some(0)),
        (after(&whole), Some(2)),
        (after(b"{\"st"), Some(1)),
        (after(&[0; 30]), Some(1)),
        (after(b"\0\0\xff\n"), Some(1)),
        // Several that never reached the disk, but for the last of them.
        (after(&[&[0; 30][..], b"\n", &whole].concat()), Some(1)),
        // Not torn: another program wrote these.
        (after(b"{\"step\":\"new kind\"}\n"), None),
        ([&b"garbage\n"[..], &whole].concat(), None),
    ] {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(parse::<Note>(&bytes, |_| true).ok().map(|notes| notes.len()), notes, "{shown:?}");
    }
    let temp = tempfile::tempdir().unwrap();
    let journal = Journal::open(temp.path()).unwrap();
    fs::write(temp.path().join("00"), after(b"{\"x\":1}\n")).unwrap();
    fs::write(temp.path().join("01"), b"{\"step").unwrap();
    fs::write(temp.path().join(".tmp-02"), &whole).unwrap();
    let error = journal.settle(|_: &[Note]| Ok::<_, Error>(())).unwrap_err();
    assert!(error.to_string().contains("00: line 2: missing field"), "{error}");
    let left: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["00"], "an entry that is not understood stays");
}

#[test]
fn an_unknown_operation_is_refused_and_left_as_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let journal = Journal::open(temp.path()).unwrap().knowing(|note| note.get("step").is_some());
    let unknown = serde_json::json!({"op": "network.create", "id": "abc"});
    let intent = journal.begin_with(&[serde_json::to_value(note("first")).unwrap(), unknown.clone()]).unwrap();
    let error = journal.alive::<Note>().unwrap_err().to_string();
    assert!(error.contains("network.create"), "what a live operation holds cannot be told: {error}");
    let path = intent.path.clone();
    drop(intent);
    let written = fs::read(&path).unwrap();
    let by_version = format!("version {VERSION} wrote it");
    // An entry of a version that did not sign its entries.
    fs::write(temp.path().join("0"), format!("{unknown}\n")).unwrap();
    let settle = || journal.settle(|_: &[Note]| -> Result<(), Error> { panic!("settled in part") });
    let error = settle().unwrap_err().to_string();
    assert!(error.contains("\"network.create\": another version wrote it"), "{error}");
    fs::remove_file(temp.path().join("0")).unwrap();
    let error = settle().unwrap_err().to_string();
    assert!(error.contains(&by_version) && error.contains(&*path.to_string_lossy()), "{error}");
    assert_eq!(fs::read(&path).unwrap(), written);
    // The version that wrote it settles it.
    assert_eq!(Journal::open(temp.path()).unwrap().alive::<Value>().unwrap().len(), 0);
    let mut settled = 0;
    let count = |notes: &[Value]| {
        settled += notes.len();
        Ok::<_, Error>(())
    };
    Journal::open(temp.path()).unwrap().settle(count).unwrap();
    assert_eq!(settled, 2);
    assert!(!path.exists());
}

#[test]
fn a_failed_note_leaves_those_before_it() {
    let temp = tempfile::tempdir().unwrap();
    let journal = Journal::open(temp.path()).unwrap();
    let mut intent = journal.begin(&note("first")).unwrap();
    // As a full disk would: half a line, then the failure.
    std::io::Write::write_all(&mut intent.file, b"{\"half").unwrap();
    intent.cut().unwrap();
    intent.note(&note("second")).unwrap();
    drop(intent);
    assert_eq!(settled(&journal), [[note("first"), note("second")]]);
}

#[test]
fn many_begin_and_settle_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let journal = Journal::open(temp.path()).unwrap();
    let settled = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (journal, settled) = (&journal, &settled);
            scope.spawn(move || {
                for n in 0..20 {
                    let step = format!("{thread}.{n}");
                    let intent = journal.begin(&note(&step)).unwrap();
                    // Every other operation dies.
                    if n % 2 == 0 {
                        drop(intent);
                    } else {
                        intent.done().unwrap();
                    }
                    let settle = |notes: &[Note]| {
                        settled.lock().unwrap().push(notes[0].step.clone());
                        Ok::<_, Error>(())
                    };
                    journal.settle(settle).unwrap();
                }
            });
        }
    });
    let mut settled = settled.into_inner().unwrap();
    settled.sort();
    let mut dead: Vec<String> = (0..4).flat_map(|t| (0..20).step_by(2).map(move |n| format!("{t}.{n}"))).collect();
    dead.sort();
    assert_eq!(settled, dead);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_cut_entry_gives_its_whole_notes(steps in prop::collection::vec("\\PC{0,12}", 0..6), cut in any::<prop::sample::Index>()) {
        let notes: Vec<Note> = steps.iter().map(|step| note(step)).collect();
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for note in &notes {
            bytes.extend(serde_json::to_vec(note).unwrap());
            bytes.push(b'\n');
            ends.push(bytes.len());
        }
        let cut = cut.index(bytes.len() + 1);
        let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
        prop_assert_eq!(parse::<Note>(&bytes[..cut], |_| true).unwrap(), &notes[..whole]);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse::<Note>(&bytes, |_| true);
    }
}
