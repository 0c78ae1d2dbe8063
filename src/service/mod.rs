//! Use cases, asynchronous, without the engine and without SQL: what `edge`, `admin` and `cli` ask for. They take the
//! [`Actor`](crate::store::command::Actor) that the audit trail names as an argument, print nothing, and return typed outcomes. The
//! layer may use `state_dir`, `store` and all below them.

mod blocking;
pub mod gateways;
pub mod import;
pub mod keys;
pub mod login;
pub mod pending_revocations;
pub mod retry;
pub mod revocations;
pub mod store_copy;
pub mod token_endpoint;
pub mod tokens;
pub mod user_changes;
pub mod users;

#[cfg(test)]
mod tests {
    use super::gateways::Gateways;
    use super::import::{Checked, Import};
    use super::keys::Keys;
    use super::retry::Retry;
    use super::revocations::Revocations;
    use super::tokens::{self, Minting};
    use super::users::{NewPassword, Users};
    use crate::auth::identity::Identity;
    use crate::auth::revocation::Subject;
    use crate::store::Store;
    use crate::store::command::Actor;
    use crate::store::records::UserFilter;

    fn is_send<T: Send>(_: T) {}

    #[expect(dead_code, reason = "that it compiles is the test: futures can be awaited on any runtime")]
    fn users_can_be_administered_on_any_runtime(users: &Users, identity: Identity, password: NewPassword) {
        is_send(users.add(identity, password.clone()));
        is_send(users.set_password("anna", password));
        is_send(users.remove("anna"));
        is_send(users.page(UserFilter::default(), "", 1));
    }

    #[expect(dead_code, reason = "that it compiles is the test: futures can be awaited on any runtime")]
    fn tokens_can_be_revoked_on_any_runtime(
        revocations: &Revocations,
        gateways: &Gateways,
        (keys, others): (Keys, Keys),
        retry: Retry,
    ) {
        is_send(revocations.subject(Subject::Everybody));
        is_send(gateways.wait_for(1, retry));
        is_send(keys.generate());
        is_send(others.revoke(String::new(), true));
    }

    #[expect(dead_code, reason = "that it compiles is the test: futures can be awaited on any runtime")]
    fn users_can_be_imported_on_any_runtime(
        store: &Store,
        import: Import,
        checked: &Checked,
        actor: &Actor,
        retry: Retry,
        minting: Minting<'_>,
    ) {
        is_send(import.check(Some(store), true, |_| {}));
        is_send(checked.write(store, actor, retry, |_| {}));
        is_send(tokens::mint(store, minting, "anna", actor));
    }
}
