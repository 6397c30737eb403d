//! What the made-up machines are for, and what that makes them.

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Web,
    Api,
    Database,
    Worker,
    Cache,
}

/// The order in which roles come: a few machines have one of each.
const ORDER: [Role; 10] = [
    Role::Web,
    Role::Api,
    Role::Database,
    Role::Worker,
    Role::Cache,
    Role::Api,
    Role::Web,
    Role::Worker,
    Role::Database,
    Role::Api,
];

impl Role {
    pub(super) fn of(machine: usize) -> Self {
        ORDER[machine % ORDER.len()]
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Api => "api",
            Self::Database => "db",
            Self::Worker => "worker",
            Self::Cache => "cache",
        }
    }

    pub(super) fn cpus(self) -> u32 {
        match self {
            Self::Web | Self::Cache => 4,
            Self::Api | Self::Worker => 8,
            Self::Database => 16,
        }
    }

    pub(super) fn memory_bytes(self) -> f64 {
        match self {
            Self::Web => 8e9,
            Self::Api | Self::Worker => 16e9,
            Self::Cache => 32e9,
            Self::Database => 64e9,
        }
    }

    /// Share of CPU when as many people are there as ever.
    pub(super) fn load(self) -> f64 {
        match self {
            Self::Web => 0.45,
            Self::Api => 0.65,
            Self::Database => 0.55,
            Self::Worker => 0.75,
            Self::Cache => 0.25,
        }
    }

    /// Share of memory when nothing is wrong.
    pub(super) fn memory(self) -> f64 {
        match self {
            Self::Web => 0.35,
            Self::Api => 0.5,
            Self::Database => 0.78,
            Self::Worker => 0.45,
            Self::Cache => 0.7,
        }
    }

    /// Processes that people know, with their share of the machine's CPU and of its memory.
    pub(super) fn processes(self) -> &'static [(&'static str, &'static str, f64, f64)] {
        match self {
            Self::Web => &[
                ("nginx", "nginx: worker process", 0.5, 0.1),
                ("node", "node server.js", 0.4, 0.6),
                ("sshd", "sshd: /usr/sbin/sshd -D", 0.0, 0.01),
            ],
            Self::Api => &[
                ("shop-api", "/srv/shop/shop-api --port 8080", 0.8, 0.7),
                ("envoy", "envoy -c /etc/envoy.yaml", 0.15, 0.1),
                ("sshd", "sshd: /usr/sbin/sshd -D", 0.0, 0.01),
            ],
            Self::Database => &[
                ("postgres", "postgres: shop shop [local] SELECT", 0.6, 0.5),
                ("postgres", "postgres: checkpointer", 0.2, 0.3),
                ("sshd", "sshd: /usr/sbin/sshd -D", 0.0, 0.01),
            ],
            Self::Worker => &[
                ("shop-worker", "/srv/shop/shop-worker --queues mail,invoice", 0.85, 0.7),
                ("cron", "/usr/sbin/cron -f", 0.0, 0.01),
                ("sshd", "sshd: /usr/sbin/sshd -D", 0.0, 0.01),
            ],
            Self::Cache => &[
                ("redis-server", "redis-server *:6379", 0.8, 0.9),
                ("sshd", "sshd: /usr/sbin/sshd -D", 0.0, 0.01),
            ],
        }
    }

    /// Containers by name and image.
    pub(super) fn containers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Web => &[("shop-web", "example/shop-web:5.2"), ("nginx", "nginx:1.29")],
            Self::Api => {
                &[("shop-api", "example/shop-api:8.1"), ("envoy", "envoyproxy/envoy:1.36")]
            }
            Self::Worker => &[("shop-worker", "example/shop-worker:8.1")],
            Self::Database | Self::Cache => &[],
        }
    }
}
