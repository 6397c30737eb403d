//! The contract of [`Registry`](crate::Registry). Every function takes a closure that opens an empty register.

use std::sync::Arc;

use model::{Labels, MachineFacts, MachineId, MachineStatus, UnixMillis};

use crate::registry::{MachineRecord, Registry};

/// Runs the whole suite: `registry_contract!(async || -> Arc<dyn Registry> { … })`.
#[macro_export]
macro_rules! registry_contract {
    ($($open:tt)+) => {
        $crate::contract_tests!(registry, { $($open)+ },
            a_record_comes_back_as_it_was
            a_record_is_replaced_but_for_when_it_was_first_seen
            machines_are_listed_by_id
            a_machine_that_was_removed_is_unknown
        );
    };
}

fn record(id: u128) -> MachineRecord {
    MachineRecord {
        id: MachineId::from_u128(id).expect("not zero"),
        facts: MachineFacts {
            host_name: "web-1".into(),
            os_type: "linux".into(),
            os_description: "Debian GNU/Linux 13".into(),
            kernel_version: "6.12".into(),
            arch: "x86_64".into(),
            cpu_model: "A \"fast\" one".into(),
            logical_cpus: 8,
            physical_cpus: 4,
            memory_bytes: u64::MAX,
            swap_bytes: 0,
            boot_time: UnixMillis(-1),
            addresses: vec!["192.0.2.1".into(), "2001:db8::1".into()],
            virtualization: String::new(),
            collector_version: "0.1.0".into(),
        },
        labels: Labels::of([("env", "dev"), ("rack", "é")]),
        first_seen: UnixMillis(1000),
        last_seen: UnixMillis(2000),
        status: MachineStatus::Online,
        status_since: UnixMillis(1500),
    }
}

pub async fn a_record_comes_back_as_it_was(open: impl AsyncFn() -> Arc<dyn Registry>) {
    let registry = open().await;
    assert_eq!(registry.machine(record(1).id).await.expect("read"), None);
    for (id, status) in (1..).zip(MachineStatus::ALL) {
        let record = MachineRecord { status, ..record(id) };
        registry.put_machine(record.clone()).await.expect("kept");
        assert_eq!(registry.machine(record.id).await.expect("read"), Some(record));
    }
}

pub async fn a_record_is_replaced_but_for_when_it_was_first_seen(
    open: impl AsyncFn() -> Arc<dyn Registry>,
) {
    let registry = open().await;
    registry.put_machine(record(1)).await.expect("kept");
    for first_seen in [UnixMillis(5000), UnixMillis(500)] {
        let newer = MachineRecord {
            facts: MachineFacts { host_name: "web-2".into(), ..MachineFacts::default() },
            labels: Labels::empty(),
            first_seen,
            last_seen: UnixMillis(9000),
            status: MachineStatus::Stopped,
            status_since: UnixMillis(8000),
            ..record(1)
        };
        registry.put_machine(newer.clone()).await.expect("kept");
        let kept = registry.machine(newer.id).await.expect("read").expect("known");
        let first_seen = first_seen.min(UnixMillis(1000));
        assert_eq!(kept, MachineRecord { first_seen, ..newer });
    }
}

pub async fn machines_are_listed_by_id(open: impl AsyncFn() -> Arc<dyn Registry>) {
    let registry = open().await;
    let ids = [3, u128::MAX, 1 << 64, 2];
    for id in ids {
        registry.put_machine(record(id)).await.expect("kept");
    }
    let machines = registry.machines().await.expect("read");
    let found: Vec<u128> = machines.iter().map(|m| m.id.as_u128()).collect();
    assert_eq!(found, [2, 3, 1 << 64, u128::MAX]);
    assert_eq!(machines[0], record(2));
}

pub async fn a_machine_that_was_removed_is_unknown(open: impl AsyncFn() -> Arc<dyn Registry>) {
    let registry = open().await;
    registry.put_machine(record(1)).await.expect("kept");
    registry.put_machine(record(2)).await.expect("kept");
    registry.remove_machine(record(1).id).await.expect("removed");
    registry.remove_machine(record(9).id).await.expect("nothing to remove");
    assert_eq!(registry.machines().await.expect("read"), [record(2)]);
}
