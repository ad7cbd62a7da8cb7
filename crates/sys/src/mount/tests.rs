use std::{fs, path::PathBuf};

use super::*;

/// A folder with `lower0`…, `upper`, `work` and `merged`, each lower one with a file of its number.
struct Layers {
    temp: tempfile::TempDir,
    lower: Vec<PathBuf>,
}

impl Layers {
    fn new(count: usize, prefix: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !crate::fs::overlay_registered().unwrap_or(false) {
            strata_testkit::require::report_skip("needs root and overlay");
            return None;
        }
        let temp = tempfile::tempdir().unwrap();
        for name in ["upper", "work", "merged"] {
            fs::create_dir(temp.path().join(name)).unwrap();
        }
        let lower: Vec<PathBuf> = (0..count).map(|n| PathBuf::from(format!("{prefix}{n}"))).collect();
        for (n, path) in lower.iter().enumerate() {
            let path = temp.path().join(path);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(format!("only{n}")), b"").unwrap();
            fs::write(path.join("top"), n.to_string()).unwrap();
        }
        Some(Self { temp, lower })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn overlay(&self) -> Overlay<'_> {
        Overlay {
            lower: self.lower.iter().map(PathBuf::as_path).collect(),
            upper: Some((Path::new("upper"), Path::new("work"))),
            options: vec!["index=off"],
            base: Some(self.temp.path()),
        }
    }

    /// Checks that all layers are seen, the first on top, and unmounts.
    fn check(&self) {
        let merged = self.at("merged");
        assert!(is_mounted(&merged).unwrap());
        assert_eq!(fs::read_to_string(merged.join("top")).unwrap(), "0");
        for n in 0..self.lower.len() {
            assert!(merged.join(format!("only{n}")).exists(), "layer {n}");
        }
        unmount(&merged).unwrap();
        assert!(!is_mounted(&merged).unwrap());
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        for mount in mounts_under(self.temp.path()).unwrap_or_default().iter().rev() {
            let _ = unmount(&mount.target);
        }
    }
}

#[test]
fn many_layers_mount_one_by_one() {
    let Some(layers) = Layers::new(300, "l") else { return };
    if !has_lowerdir_plus() {
        strata_testkit::require::report_skip("needs Linux 6.8");
        return;
    }
    overlay(&layers.at("merged"), &layers.overlay()).unwrap();
    fs::write(layers.at("merged/new"), b"").unwrap();
    assert!(layers.at("upper/new").exists());
    layers.check();
}

#[test]
fn a_page_of_options_takes_128_layers_relative_to_their_folder() {
    let Some(layers) = Layers::new(128, "l/ABCDEFGHIJKLMNOPQRSTUVW") else { return };
    let before = std::env::current_dir().unwrap();
    layers.overlay().mount_by_string(&layers.at("merged")).unwrap();
    let table = mounts_under(&layers.at("merged")).unwrap();
    assert!(table[0].super_options.contains("lowerdir=l/ABCDEFGHIJKLMNOPQRSTUVW0:l/"), "{table:?}");
    assert_eq!(std::env::current_dir().unwrap(), before);
    layers.check();
}

#[test]
fn names_with_a_meaning_and_long_ones_mount_both_ways() {
    let long = "x".repeat(250);
    for prefix in ["a:b,c\\d e", &format!("{long}/{long}/")] {
        let Some(layers) = Layers::new(3, prefix) else { return };
        layers.overlay().mount_by_string(&layers.at("merged")).unwrap();
        layers.check();
        if has_lowerdir_plus() {
            layers.overlay().mount_by_context(&layers.at("merged")).unwrap();
            layers.check();
        }
    }
}

#[test]
fn read_only_unions_need_two() {
    let Some(layers) = Layers::new(2, "l") else { return };
    let mut read_only = Overlay { upper: None, options: vec![], ..layers.overlay() };
    overlay(&layers.at("merged"), &read_only).unwrap();
    assert_eq!(fs::write(layers.at("merged/x"), b"").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    layers.check();
    read_only.lower.truncate(1);
    let error = overlay(&layers.at("merged"), &read_only).unwrap_err();
    assert!(error.to_string().contains("two directories"), "{error}");
}

#[test]
fn failures_name_the_step_and_what_the_kernel_says() {
    let Some(layers) = Layers::new(2, "l") else { return };
    let merged = layers.at("merged");
    let cases: [(&str, Overlay<'_>); 3] = [
        ("none", Overlay { lower: vec![Path::new("l0"), Path::new("none")], ..layers.overlay() }),
        ("no_such_option", Overlay { options: vec!["no_such_option=1"], ..layers.overlay() }),
        ("nowhere", Overlay { upper: Some((Path::new("nowhere"), Path::new("work"))), ..layers.overlay() }),
    ];
    for (named, overlay_) in cases {
        let error = overlay(&merged, &overlay_).expect_err(named);
        assert!(error.to_string().contains(named) && error.to_string().contains("merged"), "{error}");
        assert!(crate::errno(&error).is_some(), "{error}");
        assert!(overlay_.mount_by_string(&merged).is_err());
    }
    let error = overlay(&layers.at("missing"), &layers.overlay()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
}

#[test]
fn binds_carry_what_is_below_and_may_be_read_only() {
    let Some(layers) = Layers::new(1, "l") else { return };
    fs::create_dir(layers.at("l0/below")).unwrap();
    tmpfs(&layers.at("l0/below"), "size=1m,mode=0700").unwrap();
    fs::write(layers.at("l0/below/in"), b"").unwrap();
    let merged = layers.at("merged");
    for access in [Access::ReadOnly, Access::ReadWrite] {
        bind(&layers.at("l0"), &merged, access).unwrap();
        assert!(merged.join("only0").exists() && merged.join("below/in").exists());
        for file in ["new", "below/new"] {
            let written = fs::write(merged.join(file), b"");
            assert_eq!(written.is_ok(), access == Access::ReadWrite, "{file} {access:?}");
        }
        unmount(&merged).unwrap();
    }
    bind_by_mount(&layers.at("l0"), &merged, Access::ReadOnly).unwrap();
    assert!(fs::write(merged.join("newer"), b"").is_err());
    make_private(&merged).unwrap();
    make_private_recursive(&merged).unwrap();
    unmount(&merged).unwrap();
    assert!(fs::write(layers.at("l0/newer"), b"").is_ok(), "the source stays writable");
}

#[test]
fn a_busy_mount_is_detached() {
    let Some(layers) = Layers::new(1, "l") else { return };
    let merged = layers.at("merged");
    tmpfs(&merged, "size=1m").unwrap();
    fs::write(merged.join("f"), b"held").unwrap();
    let held = fs::File::open(merged.join("f")).unwrap();
    unmount(&merged).unwrap();
    assert!(!is_mounted(&merged).unwrap() && !merged.join("f").exists());
    assert_eq!(held.metadata().unwrap().len(), 4);
    assert_eq!(unmount(&merged).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(!is_mounted(&layers.at("none/such")).unwrap());
}
