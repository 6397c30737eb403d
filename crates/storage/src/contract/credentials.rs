//! The contract of [`Credentials`](crate::Credentials). Every function takes a closure that opens an empty
//! store.

use std::sync::Arc;

use model::{Claim, Grant, MachineId, UnixMillis};

use crate::credentials::{Account, Credential, CredentialKind, Credentials};

/// Runs the whole suite: `credentials_contract!(async || -> Arc<dyn Credentials> { … })`.
#[macro_export]
macro_rules! credentials_contract {
    ($($open:tt)+) => {
        $crate::contract_tests!(credentials, { $($open)+ },
            a_credential_comes_back_as_it_was
            one_that_was_removed_is_unknown
            a_token_for_the_first_machine_becomes_that_of_one
            when_it_was_used_only_moves_on
            what_expired_is_forgotten
            an_account_is_added_once
            a_changed_account_has_no_sessions_left
        );
    };
}

fn token(n: u8, grant: Grant) -> Credential {
    Credential {
        id: format!("t{n}"),
        kind: CredentialKind::Token,
        hash: [n; 32],
        name: format!("token \"{n}\" é"),
        grant,
        created: UnixMillis(1000 + i64::from(n)),
        created_by: "ann".into(),
        expires: None,
        used: None,
    }
}

fn session(n: u8, account: &str) -> Credential {
    let expires = Some(UnixMillis(5000));
    let kind = CredentialKind::Session;
    Credential { kind, name: account.into(), expires, ..token(n, Grant::Admin) }
}

fn account(name: &str) -> Account {
    let password = "$argon2id$v=19$m=1,t=1,p=1$c2FsdHNhbHQ$aGFzaA".into();
    Account { name: name.into(), password, grant: Grant::Read, updated: UnixMillis(7) }
}

fn machine(id: u128) -> MachineId {
    MachineId::from_u128(id).expect("not zero")
}

async fn kept(store: &Arc<dyn Credentials>, credentials: &[Credential]) {
    for credential in credentials {
        store.add(credential.clone()).await.expect("kept");
    }
}

pub async fn a_credential_comes_back_as_it_was(open: impl AsyncFn() -> Arc<dyn Credentials>) {
    let store = open().await;
    let only = Grant::Report(Claim::Only(machine(u128::MAX)));
    let used = Some(UnixMillis(2000));
    let all = [
        token(1, Grant::Read),
        token(2, only),
        Credential { used, ..token(3, Grant::Report(Claim::Any)) },
        session(4, "ann"),
    ];
    kept(&store, &all).await;
    assert_eq!(store.all().await.expect("read"), all);
    for one in all {
        assert_eq!(store.find(&one.hash).await.expect("read"), Some(one));
    }
    assert_eq!(store.find(&[9; 32]).await.expect("read"), None);
}

pub async fn one_that_was_removed_is_unknown(open: impl AsyncFn() -> Arc<dyn Credentials>) {
    let store = open().await;
    kept(&store, &[token(1, Grant::Read), token(2, Grant::Read)]).await;
    assert!(store.remove("t1").await.expect("removed"));
    assert!(!store.remove("t1").await.expect("nothing to remove"));
    assert_eq!(store.find(&[1; 32]).await.expect("read"), None);
    assert_eq!(store.all().await.expect("read"), [token(2, Grant::Read)]);
}

pub async fn a_token_for_the_first_machine_becomes_that_of_one(
    open: impl AsyncFn() -> Arc<dyn Credentials>,
) {
    let store = open().await;
    let of = |n, claim| token(n, Grant::Report(claim));
    kept(&store, &[of(1, Claim::First), of(2, Claim::Any), token(3, Grant::Admin)]).await;
    for (id, who, expected) in [
        ("t1", 7, true),
        ("t1", 7, true),
        ("t1", 8, false),
        ("t2", 7, false),
        ("t3", 7, false),
        ("t9", 7, false),
    ] {
        assert_eq!(store.bind(id, machine(who)).await.expect("asked"), expected, "{id} {who}");
    }
    let expected = [of(1, Claim::Only(machine(7))), of(2, Claim::Any), token(3, Grant::Admin)];
    assert_eq!(store.all().await.expect("read"), expected);
}

pub async fn when_it_was_used_only_moves_on(open: impl AsyncFn() -> Arc<dyn Credentials>) {
    let store = open().await;
    kept(&store, &[token(1, Grant::Read), token(2, Grant::Read)]).await;
    let uses = |time| [("t1".to_owned(), UnixMillis(time)), ("gone".to_owned(), UnixMillis(time))];
    store.used(&uses(3000)).await.expect("kept");
    store.used(&uses(2000)).await.expect("kept");
    let used: Vec<_> = store.all().await.expect("read").into_iter().map(|c| c.used).collect();
    assert_eq!(used, [Some(UnixMillis(3000)), None]);
}

pub async fn what_expired_is_forgotten(open: impl AsyncFn() -> Arc<dyn Credentials>) {
    let store = open().await;
    kept(&store, &[token(1, Grant::Read), session(2, "ann")]).await;
    store.prune(UnixMillis(5000)).await.expect("pruned");
    assert_eq!(store.all().await.expect("read").len(), 2);
    store.prune(UnixMillis(5001)).await.expect("pruned");
    assert_eq!(store.all().await.expect("read"), [token(1, Grant::Read)]);
}

pub async fn an_account_is_added_once(open: impl AsyncFn() -> Arc<dyn Credentials>) {
    let store = open().await;
    assert!(store.add_account(account("bob")).await.expect("kept"));
    assert!(store.add_account(account("ann")).await.expect("kept"));
    let other = Account { grant: Grant::Admin, ..account("ann") };
    assert!(!store.add_account(other).await.expect("asked"));
    assert_eq!(store.accounts().await.expect("read"), [account("ann"), account("bob")]);
}

pub async fn a_changed_account_has_no_sessions_left(open: impl AsyncFn() -> Arc<dyn Credentials>) {
    let store = open().await;
    let of_a_token = Credential { name: "ann".into(), ..token(4, Grant::Admin) };
    let all = [session(1, "ann"), session(2, "bob"), session(3, "eve"), of_a_token.clone()];
    kept(&store, &all).await;
    store.put_account(account("eve")).await.expect("kept");
    let ann = Account { password: "$argon2id$new".into(), ..account("ann") };
    store.put_account(account("ann")).await.expect("kept");
    store.put_account(ann.clone()).await.expect("kept");
    assert_eq!(store.all().await.expect("read"), [session(2, "bob"), of_a_token.clone()]);
    assert!(!store.remove_account("bob").await.expect("nothing to remove"));
    assert!(store.remove_account("eve").await.expect("removed"));
    assert_eq!(store.accounts().await.expect("read"), [ann]);
    assert_eq!(store.all().await.expect("read"), [of_a_token]);
}
