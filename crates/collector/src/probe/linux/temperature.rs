//! Temperatures from the sensors that the kernel knows.
//!
//! Chips under `class/hwmon`; where there are none, the zones under `class/thermal`. A sensor may take
//! its time to answer (some ask a disk or a slow bus), so this probe has a lane of its own.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::metric::TEMPERATURE;

use crate::probe::quantise::degrees;
use crate::probe::{At, Probe, Setup, Sheet};

/// More sensors than this are left out and counted.
const SENSORS_MAX: usize = 200;
/// Sensors come and go with drivers and drives, rarely.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

struct Temperature {
    class: PathBuf,
    sensors: Vec<Sensor>,
    left_out: usize,
    looked_at: Option<Instant>,
}

/// Where to read one temperature, and what it is called.
#[derive(Clone, Debug, PartialEq)]
struct Sensor {
    /// Stable across reboots where the driver allows: the device, not the number of the chip.
    id: String,
    name: String,
    input: PathBuf,
}

pub(super) fn open(setup: &Setup) -> Box<dyn Probe> {
    Box::new(Temperature {
        class: setup.config.sys_root.join("class"),
        sensors: Vec::new(),
        left_out: 0,
        looked_at: None,
    })
}

impl Probe for Temperature {
    fn read(&mut self, at: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        if self.looked_at.is_none_or(|then| at.instant - then >= LOOK_AGAIN_AFTER) {
            self.sensors = find(&self.class);
            self.left_out = self.sensors.len().saturating_sub(SENSORS_MAX);
            self.sensors.truncate(SENSORS_MAX);
            self.looked_at = Some(at.instant);
        }
        sheet.left_out(self.left_out);
        for sensor in &self.sensors {
            // One sensor that does not answer (a sleeping GPU says EAGAIN) does not hide the others.
            let celsius = fs::read_to_string(&sensor.input).ok().and_then(|text| parse(&text));
            let labels = [("hw.id", sensor.id.as_str()), ("hw.name", sensor.name.as_str())];
            sheet.put(&TEMPERATURE, labels, celsius.unwrap_or(f64::NAN));
        }
        Ok(())
    }
}

/// Millidegrees to degrees; `None` for what an absent sensor reads as.
fn parse(text: &str) -> Option<f64> {
    let celsius = text.trim().parse::<f64>().ok()? / 1000.0;
    (-60.0..=200.0).contains(&celsius).then(|| degrees(celsius))
}

fn find(class: &Path) -> Vec<Sensor> {
    let mut sensors: Vec<Sensor> =
        entries(&class.join("hwmon")).iter().flat_map(|chip| chip_sensors(chip)).collect();
    if sensors.is_empty() {
        let zones = entries(&class.join("thermal"));
        sensors = zones.iter().filter_map(|zone| zone_sensor(zone)).collect();
    }
    let mut seen = HashSet::new();
    for sensor in &mut sensors {
        let mut id = sensor.id.clone();
        let mut again = 2;
        while !seen.insert(id.clone()) {
            id = format!("{}#{again}", sensor.id);
            again += 1;
        }
        sensor.id = id;
    }
    sensors
}

fn chip_sensors(chip: &Path) -> Vec<Sensor> {
    let chip_name = read(&chip.join("name")).unwrap_or_else(|| file_name(chip));
    let device =
        fs::read_link(chip.join("device")).map_or_else(|_| chip_name.clone(), |to| file_name(&to));
    let inputs = entries(chip).into_iter().filter_map(|path| {
        let channel = file_name(&path).strip_suffix("_input")?.to_owned();
        channel.starts_with("temp").then_some((channel, path))
    });
    inputs
        .map(|(channel, input)| {
            let label = read(&chip.join(format!("{channel}_label")));
            Sensor {
                id: format!("{device}/{channel}"),
                name: format!("{chip_name} {}", label.as_deref().unwrap_or(&channel)),
                input,
            }
        })
        .collect()
}

fn zone_sensor(zone: &Path) -> Option<Sensor> {
    let id = file_name(zone);
    let input = zone.join("temp");
    (id.starts_with("thermal_zone") && input.exists()).then(|| Sensor {
        name: read(&zone.join("type")).unwrap_or_else(|| id.clone()),
        id,
        input,
    })
}

/// The entries of a directory in the order of their names, numbers by value; none when it is not there.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        dir.read_dir().map_or(Vec::new(), |all| all.flatten().map(|e| e.path()).collect());
    entries.sort_by_cached_key(|path| {
        let name = file_name(path);
        let digits = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
        let number: String = name[digits..].chars().take_while(char::is_ascii_digit).collect();
        (name[..digits].to_owned(), number.parse::<u64>().unwrap_or(0), name)
    });
    entries
}

fn read(path: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(path).ok()?).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A made-up sysfs: files by path, with `-> target` for links.
    fn sysfs(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("temporary directory");
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("has a parent")).expect("writable");
            match content.strip_prefix("-> ") {
                Some(target) => symlink(target, &path).expect("writable"),
                None => fs::write(&path, content).expect("writable"),
            }
        }
        root
    }

    fn names(root: &Path) -> Vec<(String, String, Option<f64>)> {
        let value = |s: &Sensor| fs::read_to_string(&s.input).ok().and_then(|t| parse(&t));
        find(root).into_iter().map(|s| (s.id.clone(), s.name.clone(), value(&s))).collect()
    }

    #[test]
    fn a_laptop_has_its_chips_with_labels_in_order() {
        let root = sysfs(&[
            ("hwmon/hwmon10/name", "nvme\n"),
            ("hwmon/hwmon10/device", "-> ../../nvme0"),
            ("hwmon/hwmon10/temp1_input", "38850\n"),
            ("hwmon/hwmon10/temp1_label", "Composite\n"),
            ("hwmon/hwmon2/name", "coretemp\n"),
            ("hwmon/hwmon2/device", "-> ../../../coretemp.0"),
            ("hwmon/hwmon2/temp1_input", "61000\n"),
            ("hwmon/hwmon2/temp1_label", "Package id 0\n"),
            ("hwmon/hwmon2/temp10_input", "-128000\n"),
            ("hwmon/hwmon2/temp2_input", "59000\n"),
            ("hwmon/hwmon2/fan1_input", "2400\n"),
            ("thermal/thermal_zone0/temp", "60000\n"),
        ]);
        let expected = [
            ("coretemp.0/temp1", "coretemp Package id 0", Some(61.0)),
            ("coretemp.0/temp2", "coretemp temp2", Some(59.0)),
            ("coretemp.0/temp10", "coretemp temp10", None),
            ("nvme0/temp1", "nvme Composite", Some(38.9)),
        ];
        let expected = expected.map(|(id, name, t)| (id.to_owned(), name.to_owned(), t));
        assert_eq!(names(root.path()), expected);
    }

    #[test]
    fn a_board_without_chips_has_its_zones() {
        let root = sysfs(&[
            ("thermal/thermal_zone0/temp", "48312\n"),
            ("thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("thermal/cooling_device0/type", "fan\n"),
        ]);
        let expected = ("thermal_zone0".to_owned(), "cpu-thermal".to_owned(), Some(48.3));
        assert_eq!(names(root.path()), [expected]);
    }

    #[test]
    fn two_chips_without_a_device_keep_apart() {
        let root = sysfs(&[
            ("hwmon/hwmon0/name", "acpitz\n"),
            ("hwmon/hwmon0/temp1_input", "1000\n"),
            ("hwmon/hwmon1/name", "acpitz\n"),
            ("hwmon/hwmon1/temp1_input", "2000\n"),
        ]);
        let ids: Vec<String> = find(root.path()).into_iter().map(|s| s.id).collect();
        assert_eq!(ids, ["acpitz/temp1", "acpitz/temp1#2"]);
    }

    #[test]
    fn a_machine_without_sensors_has_none() {
        assert!(find(Path::new("/nowhere")).is_empty());
    }
}
