//! Who looks at the dashboard, as far as the server made sure of it.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use model::Caller;

tokio::task_local! {
    /// Of the request that is being answered. `None` where nobody is asked who they are.
    static CALLER: Option<Caller>;
}

/// Lets everything that answers a request know who asked.
pub(crate) async fn remember(request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().cloned();
    CALLER.scope(caller, next.run(request)).await
}

/// `None` where nobody is asked who they are.
pub(crate) fn current() -> Option<Caller> {
    CALLER.try_with(Clone::clone).ok().flatten()
}

/// Who the audit says that it was.
pub(crate) fn name() -> String {
    current().map_or_else(|| "dashboard".to_owned(), |caller| caller.name)
}
