//! Access control of a role that keeps the tokens itself.

use std::sync::Arc;

use access::{Access, FirstStart};
use storage::Credentials;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::serving::{ACCESS_SERVICES, Serving};

/// `AccessService` where callers must prove who they are; nothing where not.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    access: Option<Access>,
    first: FirstStart,
}

impl Doorkeeper {
    pub(crate) async fn open(
        serving: &Serving,
        config: &access::Config,
        store: Arc<dyn Credentials>,
    ) -> anyhow::Result<Self> {
        if !serving.guarded {
            config.check()?;
            return Ok(Self { access: None, first: FirstStart::default() });
        }
        let (access, first) = Access::open(config, store).await?;
        Ok(Self { access: Some(access), first })
    }

    /// `routes` with the service, and all names of services.
    pub(crate) fn beside(
        &self,
        routes: Routes,
        names: &[&'static str],
    ) -> (Routes, Vec<&'static str>) {
        match &self.access {
            Some(access) => {
                (crate::up::together(routes, access.routes()), [names, &ACCESS_SERVICES].concat())
            }
            None => (routes, names.to_vec()),
        }
    }

    /// What the guard asks, when it asks.
    pub(crate) fn link(&self) -> Option<proto::Link> {
        self.access.as_ref().map(|access| proto::Link::new(access.routes().prepare()))
    }

    /// Follows what other processes change.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        match self.access {
            Some(access) => access.run(stop).await,
            None => {
                stop.cancelled().await;
                Ok(())
            }
        }
    }

    /// Prints what was made up, on the one occasion that there is.
    pub(crate) fn introduce(&self) {
        let FirstStart { login, collector_token } = &self.first;
        if let Some((name, password)) = login {
            println!(
                "This is the first start that asks who people are. Shown once, and kept nowhere:"
            );
            println!("  login            {name}  {password}");
            if let Some(token) = collector_token {
                println!("  collector token  {token}");
                println!("                   for collectors: --token-file FILE or MUSTER_TOKEN=…");
            }
            println!(
                "  Lost? `muster account set {name}` and `muster token create NAME` make new ones."
            );
        }
    }
}
