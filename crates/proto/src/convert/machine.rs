//! What a machine is.

use std::collections::HashMap;

use model::{Headline, Labels, MachineFacts, MachineStatus, UnixMillis, limits};

use super::{FieldError, timestamp_to_proto};
use crate::v1;

pub fn labels_to_proto(labels: &Labels) -> HashMap<String, String> {
    labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

pub fn labels_from_proto(
    field: &str,
    labels: HashMap<String, String>,
) -> Result<Labels, FieldError> {
    Labels::new(labels).map_err(|error| FieldError::new(field, error))
}

pub fn facts_to_proto(facts: &MachineFacts) -> v1::MachineFacts {
    let facts = facts.clone();
    v1::MachineFacts {
        host_name: facts.host_name,
        os_type: facts.os_type,
        os_description: facts.os_description,
        kernel_version: facts.kernel_version,
        arch: facts.arch,
        cpu_model: facts.cpu_model,
        logical_cpus: facts.logical_cpus,
        physical_cpus: facts.physical_cpus,
        memory_bytes: facts.memory_bytes,
        swap_bytes: facts.swap_bytes,
        boot_time_unix_ms: facts.boot_time.0,
        addresses: facts.addresses,
        virtualization: facts.virtualization,
        collector_version: facts.collector_version,
    }
}

pub fn facts_from_proto(facts: v1::MachineFacts) -> Result<MachineFacts, FieldError> {
    if facts.host_name.is_empty() || facts.host_name.len() > limits::HOST_NAME_BYTES_MAX {
        return Err(FieldError::new(
            "host_name",
            format!(
                "expected 1 to {} bytes, found {}",
                limits::HOST_NAME_BYTES_MAX,
                facts.host_name.len()
            ),
        ));
    }
    if facts.addresses.len() > 256 {
        return Err(FieldError::new(
            "addresses",
            format!("{} are more than 256", facts.addresses.len()),
        ));
    }
    let texts = [
        ("os_type", &facts.os_type),
        ("os_description", &facts.os_description),
        ("kernel_version", &facts.kernel_version),
        ("arch", &facts.arch),
        ("cpu_model", &facts.cpu_model),
        ("virtualization", &facts.virtualization),
        ("collector_version", &facts.collector_version),
    ];
    let addresses = facts.addresses.iter().map(|address| ("addresses", address));
    for (field, text) in texts.into_iter().chain(addresses) {
        if text.len() > limits::TEXT_BYTES_MAX {
            return Err(FieldError::new(
                field,
                format!("longer than {} bytes", limits::TEXT_BYTES_MAX),
            ));
        }
    }
    Ok(MachineFacts {
        host_name: facts.host_name,
        os_type: facts.os_type,
        os_description: facts.os_description,
        kernel_version: facts.kernel_version,
        arch: facts.arch,
        cpu_model: facts.cpu_model,
        logical_cpus: facts.logical_cpus,
        physical_cpus: facts.physical_cpus,
        memory_bytes: facts.memory_bytes,
        swap_bytes: facts.swap_bytes,
        boot_time: UnixMillis(facts.boot_time_unix_ms),
        addresses: facts.addresses,
        virtualization: facts.virtualization,
        collector_version: facts.collector_version,
    })
}

pub fn status_to_proto(status: MachineStatus) -> v1::MachineStatus {
    match status {
        MachineStatus::Online => v1::MachineStatus::Online,
        MachineStatus::Stale => v1::MachineStatus::Stale,
        MachineStatus::Asleep => v1::MachineStatus::Asleep,
        MachineStatus::Offline => v1::MachineStatus::Offline,
        MachineStatus::Stopped => v1::MachineStatus::Stopped,
    }
}

pub fn headline_to_proto(headline: &Headline) -> v1::Headline {
    v1::Headline {
        time: Some(timestamp_to_proto(headline.time)),
        cpu_utilization: headline.cpu_utilization,
        memory_utilization: headline.memory_utilization,
        filesystem_utilization: headline.filesystem_utilization,
        filesystem_mountpoint: headline.filesystem_mountpoint.clone(),
        network_receive_rate: headline.network_receive_rate,
        network_transmit_rate: headline.network_transmit_rate,
        disk_read_rate: headline.disk_read_rate,
        disk_write_rate: headline.disk_write_rate,
        load_1m: headline.load_1m,
        temperature: headline.temperature,
        uptime: headline.uptime,
        swap_utilization: headline.swap_utilization,
    }
}
