//! What a machine runs in: a container, a virtual machine, or nothing.
//!
//! A container leaves marks in its files, and so does every root filesystem that was once made from a
//! container's image, be it of a virtual machine or of a board. Namespaces cannot be copied: the marks
//! are believed only where the collector is not in the namespaces that the kernel itself made at boot.

use std::fs;
use std::path::Path;

/// Names as `systemd-detect-virt` has them where it has one. Empty on bare metal, or when unknown.
pub(super) fn detect() -> String {
    detect_in(Path::new("/"), &cpu_signature())
}

/// The container first: it is nearer than the virtual machine that it may run in.
fn detect_in(root: &Path, cpu_signature: &str) -> String {
    container(root)
        .or_else(|| virtual_machine(root, cpu_signature).map(str::to_owned))
        .unwrap_or_default()
}

fn container(root: &Path) -> Option<String> {
    let at = |path: &str| root.join(path);
    // These two are no namespaces of a kernel but kernels of their own kind.
    if at("proc/vz").exists() && !at("proc/bc").exists() {
        return Some("openvz".to_owned());
    }
    let kernel = read(&at("proc/sys/kernel/osrelease")).to_lowercase();
    if kernel.contains("microsoft") || kernel.contains("wsl") {
        return Some("wsl".to_owned());
    }
    let apart = is_apart(root);
    if apart == Some(false) {
        return None;
    }
    let named = || {
        let by_manager = ["run/systemd/container", "run/host/container-manager"];
        let environment = read(&at("proc/1/environ"));
        let by_environment = environment.split('\0').find_map(|v| v.strip_prefix("container="));
        let names = by_manager.iter().map(|file| read(&at(file)));
        names.chain(by_environment.map(str::to_owned)).find(|name| is_word(name))
    };
    let marked = || match () {
        () if at("run/.containerenv").exists() => Some("podman".to_owned()),
        () if at(".dockerenv").exists() => Some("docker".to_owned()),
        () => None,
    };
    named().or_else(marked).or_else(|| (apart == Some(true)).then(|| "container".to_owned()))
}

/// Whether the collector sees other processes or groups than the kernel's first process does; `None`
/// where it cannot be told. The numbers of the first namespaces are constants of the kernel
/// (include/linux/proc_ns.h).
fn is_apart(root: &Path) -> Option<bool> {
    const FIRST: [(&str, &str); 2] =
        [("pid", "pid:[4026531836]"), ("cgroup", "cgroup:[4026531835]")];
    let apart = FIRST.iter().filter_map(|(kind, first)| {
        let namespace = fs::read_link(root.join("proc/self/ns").join(kind)).ok()?;
        Some(namespace != Path::new(first))
    });
    apart.reduce(|a, b| a || b)
}

fn is_word(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn virtual_machine(root: &Path, cpu_signature: &str) -> Option<&'static str> {
    // The owner of the hardware first: a cloud says more than the hypervisor that it uses.
    const VENDORS: [(&str, &str); 13] = [
        ("amazon ec2", "amazon"),
        ("google compute engine", "google"),
        ("openstack", "kvm"),
        ("kubevirt", "kvm"),
        ("qemu", "kvm"),
        ("kvm", "kvm"),
        ("vmware", "vmware"),
        ("virtualbox", "oracle"),
        ("innotek", "oracle"),
        ("xen", "xen"),
        ("bochs", "kvm"),
        ("parallels", "parallels"),
        ("virtual machine", "microsoft"),
    ];
    // As `CPUID` names them, leaf 0x4000_0000.
    const SIGNATURES: [(&str, &str); 7] = [
        ("KVMKVMKVM", "kvm"),
        ("Linux KVM Hv", "kvm"),
        ("TCGTCGTCGTCG", "qemu"),
        ("VMwareVMware", "vmware"),
        ("Microsoft Hv", "microsoft"),
        ("XenVMMXenVMM", "xen"),
        ("bhyve bhyve", "bhyve"),
    ];
    let at = |path: &str| read(&root.join(path));
    let dmi = ["product_name", "sys_vendor", "board_vendor"]
        .map(|file| at(&format!("sys/class/dmi/id/{file}")).to_lowercase())
        .join(" ");
    if let Some((_, name)) = VENDORS.iter().find(|(vendor, _)| dmi.contains(vendor)) {
        return Some(name);
    }
    if at("sys/hypervisor/type") == "xen" {
        // The first domain of a Xen host is the host.
        let is_host = at("proc/xen/capabilities").contains("control_d");
        return (!is_host).then_some("xen");
    }
    // Small hypervisors (Firecracker, Cloud Hypervisor) bring no DMI tables at all.
    if let Some((_, name)) = SIGNATURES.iter().find(|(text, _)| cpu_signature == *text) {
        return Some(name);
    }
    match at("proc/device-tree/hypervisor/compatible").as_str() {
        "" => {}
        "linux,kvm" => return Some("kvm"),
        other if other.contains("xen") => return Some("xen"),
        _ => return Some("vm-other"),
    }
    let cpuinfo = at("proc/cpuinfo");
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or("");
    flags.split_ascii_whitespace().any(|flag| flag == "hypervisor").then_some("vm-other")
}

/// What the hypervisor calls itself; empty when there is none.
#[cfg(target_arch = "x86_64")]
fn cpu_signature() -> String {
    use std::arch::x86_64::__cpuid;
    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    if __cpuid(1).ecx & HYPERVISOR_PRESENT == 0 {
        return String::new();
    }
    let leaf = __cpuid(0x4000_0000);
    let bytes = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes).concat();
    String::from_utf8_lossy(&bytes).trim_matches(['\0', ' ']).to_owned()
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_signature() -> String {
    String::new()
}

fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_matches(['\n', '\0']).to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const BOOT: (&str, &str) = ("pid:[4026531836]", "cgroup:[4026531835]");
    const OWN: (&str, &str) = ("pid:[4026532574]", "cgroup:[4026532575]");

    #[track_caller]
    fn check(namespaces: (&str, &str), files: &[(&str, &str)], signature: &str, expected: &str) {
        let root = tempfile::tempdir().expect("temporary directory");
        let put = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("has a parent")).expect("writable");
            path
        };
        symlink(namespaces.0, put("proc/self/ns/pid")).expect("linked");
        symlink(namespaces.1, put("proc/self/ns/cgroup")).expect("linked");
        for (file, content) in files {
            fs::write(put(file), content).expect("writable");
        }
        assert_eq!(detect_in(root.path(), signature), expected, "{files:?}");
    }

    #[test]
    fn a_container_has_marks_and_namespaces_of_its_own() {
        check(OWN, &[(".dockerenv", "")], "", "docker");
        check(OWN, &[("run/.containerenv", "")], "", "podman");
        check(OWN, &[("proc/1/environ", "PATH=/bin\0container=lxc\0")], "", "lxc");
        check(OWN, &[("run/systemd/container", "systemd-nspawn\n")], "", "systemd-nspawn");
        check(OWN, &[("proc/1/environ", "container=<script>\0")], "", "container");
        check(OWN, &[], "KVMKVMKVM", "container");
        // Docker with --pid=host.
        check((BOOT.0, OWN.1), &[(".dockerenv", "")], "", "docker");
    }

    #[test]
    fn a_virtual_machine_made_from_a_container_image_is_a_virtual_machine() {
        let image = [(".dockerenv", ""), ("proc/cpuinfo", "flags\t\t: fpu hypervisor\n")];
        check(BOOT, &image, "KVMKVMKVM", "kvm");
        check(BOOT, &image, "", "vm-other");
        check(BOOT, &[("run/.containerenv", "")], "", "");
    }

    #[test]
    fn a_kernel_without_namespaces_leaves_the_marks_to_speak() {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::write(root.path().join(".dockerenv"), "").expect("writable");
        assert_eq!(detect_in(root.path(), ""), "docker");
    }

    #[test]
    fn a_virtual_machine_is_named_by_its_vendor_or_its_hypervisor() {
        let vendor = |file, text, expected| {
            check(BOOT, &[(&format!("sys/class/dmi/id/{file}"), text)], "KVMKVMKVM", expected);
        };
        vendor("sys_vendor", "QEMU\n", "kvm");
        vendor("sys_vendor", "Amazon EC2\n", "amazon");
        vendor("product_name", "VMware Virtual Platform\n", "vmware");
        vendor("product_name", "Virtual Machine\n", "microsoft");
        check(BOOT, &[("sys/class/dmi/id/sys_vendor", "Dell Inc.\n")], "", "");
        check(BOOT, &[("sys/hypervisor/type", "xen\n")], "XenVMMXenVMM", "xen");
        let host = [("sys/hypervisor/type", "xen\n"), ("proc/xen/capabilities", "control_d\n")];
        check(BOOT, &host, "XenVMMXenVMM", "");
        check(BOOT, &[("proc/device-tree/hypervisor/compatible", "linux,kvm\0")], "", "kvm");
        check(BOOT, &[("proc/cpuinfo", "flags\t\t: fpu sse hypervisor\n")], "", "vm-other");
        check(BOOT, &[("proc/cpuinfo", "flags\t\t: fpu sse\n")], "", "");
        check(
            BOOT,
            &[("proc/sys/kernel/osrelease", "5.15.1-microsoft-standard-WSL2\n")],
            "",
            "wsl",
        );
    }
}
