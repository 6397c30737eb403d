//! The metadata of the Debian packages, and their scripts.

use std::path::Path;
use std::process::Command;

use super::{read, root};

#[test]
fn a_package_holds_files_that_exist_and_scripts_that_can_be_read() {
    for (folder, name) in [("muster", "muster"), ("collector", "muster-collector")] {
        let manifest: toml::Table =
            read(&format!("crates/{folder}/Cargo.toml")).parse().expect("TOML");
        let deb = &manifest["package"]["metadata"]["deb"];
        let here = root().join("crates").join(folder);
        let mut installed = Vec::new();
        for asset in deb["assets"].as_array().expect("assets") {
            let part = |i: usize| asset[i].as_str().expect("text");
            let (from, to, mode) = (part(0), part(1), part(2));
            match from.strip_prefix("target/release/") {
                Some(executable) => assert_eq!((executable, to, mode), (name, "usr/bin/", "755")),
                None => assert!(here.join(from).is_file(), "{name}: {from} is not there"),
            }
            let file = Path::new(from).file_name().expect("a name").to_str().expect("text");
            installed.push(if to.ends_with('/') {
                format!("/{to}{file}")
            } else {
                format!("/{to}")
            });
        }
        assert!(installed.contains(&format!("/usr/lib/systemd/system/{name}.service")));
        for kept in deb["conf-files"].as_array().expect("settings") {
            assert!(installed.contains(&kept.as_str().expect("text").to_owned()), "{name}: {kept}");
        }
        // What the unit reads is in the package, or may be absent.
        let unit = read(&format!("deploy/{name}.service"));
        let words = unit.split([' ', '=', '\n']).filter(|word| word.starts_with("/etc/muster/"));
        for path in words {
            assert!(installed.contains(&path.to_owned()), "{name}: {path} is not installed");
        }
        let scripts = here.join(deb["maintainer-scripts"].as_str().expect("a folder"));
        for script in ["postinst", "prerm", "postrm"] {
            let path = scripts.join(script);
            let text = std::fs::read_to_string(&path).expect("a script");
            assert!(text.starts_with("#!/bin/sh\nset -e\n"), "{script}");
            assert!(
                !text.contains("systemctl") || text.contains("/run/systemd/system"),
                "{script}"
            );
            let read = Command::new("sh").arg("-n").arg(&path).status().expect("a shell");
            assert!(read.success(), "{}", path.display());
        }
    }
}
